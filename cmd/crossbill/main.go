// Command crossbill is the platform, the edge agent and the operator's tools in one binary. With
// cmd/internal/platform it is the only place where the rooms are wired together; it decides nothing itself.
//
// Start reading at [platform.Start]; demo.go plays the main job through the public API.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"crossbill/api"
	"crossbill/cmd/crossbill/cli"
)

// asCommand is set for the processes that the program starts of itself, so that a test's binary knows what it is to be.
const asCommand = "CROSSBILL_AS_COMMAND"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process around it, so that tests start the program just as main does.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (exitCode int) {
	root := &cobra.Command{
		Use:           "crossbill",
		Short:         "The neutral marketplace and rebill backend for network connections",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(serveCommand(), runCommand(), demoCommand(), edgeCommand(), logCommand(), ledgerCommand(), priceCommand(), projectionsCommand(), postgresCommand(), eraseCommand(), keysCommand())
	contract, err := api.Contract()
	if err == nil {
		root.AddGroup(cli.Groups()...)
		err = cli.Add(root, contract)
	}
	if err != nil {
		fmt.Fprintln(stderr, "crossbill:", err)
		return 1
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(stderr, "crossbill:", err)
		return cli.ExitCode(err)
	}
	return 0
}
