package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"crossbill/cmd/internal/platform"
	"crossbill/domain"
	"crossbill/edge"
	"crossbill/events/postgres"
)

func serveCommand() *cobra.Command {
	c := platform.Config{
		DatabaseURL: os.Getenv("DATABASE_URL"), StripeKey: os.Getenv("STRIPE_API_KEY"), StripeURL: os.Getenv("STRIPE_API_URL"),
		StripeSecret: os.Getenv("STRIPE_WEBHOOK_SECRET"),
	}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node of the platform",
		Long: "Runs a node until it is interrupted. With DATABASE_URL unset it starts a private PostgreSQL in the data directory.\n" +
			"The operator's API key is in the data directory, in operator.key. With STRIPE_API_KEY set, invoices can be paid and\n" +
			"providers are paid out; STRIPE_WEBHOOK_SECRET is that of the endpoint /v1/stripe/webhook at Stripe (docs/payments.md);\n" +
			"STRIPE_API_URL is for a Stripe that is not the real one, such as stripe-mock.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			p, err := platform.Start(cmd.Context(), c)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "crossbill serves %s\noperator key in %s\n", strings.Join(p.URLs, " "), filepath.Join(c.DataDir, platform.OperatorKeyFile))
			if len(p.EdgeURLs) > 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "edge nodes reach it at %s\n", strings.Join(p.EdgeURLs, " "))
			}
			<-cmd.Context().Done()
			return p.Stop()
		},
	}
	cmd.Flags().StringVar(&c.DataDir, "data-dir", "crossbill-data", "directory of the keys and the private PostgreSQL")
	addArchiveDir(cmd.Flags(), &c.ArchiveDir)
	cmd.Flags().StringSliceVar(&c.Listen, "listen", []string{"127.0.0.1:8080"}, "addresses to serve on")
	cmd.Flags().StringSliceVar(&c.EdgeListen, "edge-listen", nil, "addresses to serve edge nodes on, over TLS with certificates of the platform's own")
	cmd.Flags().BoolVar(&c.WebhooksAnywhere, "webhooks-anywhere", false, "let webhooks be plain HTTP and in private networks: for tests")
	cmd.Flags().StringVar(&c.PublicURL, "public-url", os.Getenv("CROSSBILL_PUBLIC_URL"), "address under which the API is reached from outside; invoices lead there")
	cmd.Flags().DurationVar(&c.ReadingInterval, "reading-interval", 5*time.Minute, "length of a meter reading")
	return cmd
}

func edgeCommand() *cobra.Command {
	var platformURL, stateDir, pinDir string
	var software bool
	cmd := &cobra.Command{
		Use:   "edge",
		Short: "Run the agent of an edge node",
		Long: "Runs on the node, in the network namespace whose interfaces are its ports. The machine must have joined before; the agent\n" +
			"renews the certificate that it got then, and takes up another that is joined with meanwhile.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			logger := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			identity, err := edge.OpenIdentity(stateDir, platformURL)
			if err != nil {
				return err
			}
			platform, err := edge.NewAPI(identity)
			if err != nil {
				return err
			}
			c := edge.Config{Platform: platform, Identity: identity, StateDir: stateDir, Logger: logger}
			if software {
				node := edge.NewSoftwareNode(edge.SoftwareOptions{StateDir: stateDir})
				defer func() { err = errors.Join(err, node.Close()) }()
				c.Node = node
			} else {
				node, err := edge.OpenKernelNode(edge.KernelOptions{PinDir: pinDir, Logger: logger})
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, node.Close()) }()
				c.Node = node
			}
			return edge.Run(cmd.Context(), c)
		},
	}
	cmd.Flags().StringVar(&platformURL, "platform", "", "where the platform is reached, if not where the node joined")
	addStateDir(cmd, &stateDir)
	cmd.Flags().StringVar(&pinDir, "pin-dir", "", "directory in bpffs where the meters outlive the agent; the default is one for the machine")
	cmd.Flags().BoolVar(&software, "software", false, "relay TCP in user space instead: for demonstrations")
	cmd.AddCommand(edgeJoinCommand())
	return cmd
}

func addStateDir(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "state-dir", "/var/lib/crossbill-edge", "directory of the node's key and of the journal of readings")
}

// maxTokenFile bounds what is read of a token's file, in bytes.
const maxTokenFile = 1024

func edgeJoinCommand() *cobra.Command {
	var platformURL, tokenFile, stateDir string
	cmd := &cobra.Command{
		Use:   "join",
		Short: "Make this machine an edge node, with a join token",
		Long: "Makes a key, which never leaves the machine, and gets a certificate for it from the platform. An operator makes the token\n" +
			"(crossbill edge-nodes create-join-token); it can be used once. An agent that runs on the state directory takes the\n" +
			"certificate up by itself. Another machine that was the node is it no more.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			token, err := readToken(tokenFile, cmd.InOrStdin())
			if err != nil {
				return err
			}
			id, err := edge.Join(cmd.Context(), platformURL, token, stateDir)
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "joined as %s\n", id)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&platformURL, "platform", "", "the platform's address for edge nodes (https://host:port)")
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "file with the join token; - is standard input")
	addStateDir(cmd, &stateDir)
	cmd.MarkFlagRequired("platform")
	cmd.MarkFlagRequired("token-file")
	return cmd
}

// readToken takes no token from the command line, where other users of the machine would see it.
func readToken(path string, stdin io.Reader) (string, error) {
	in := stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return "", domain.Errorf(domain.Invalid, "crossbill.edge.join", "the join token: %w", err)
		}
		defer file.Close()
		in = file
	}
	content, err := io.ReadAll(io.LimitReader(in, maxTokenFile))
	return string(content), err
}

func postgresCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "postgres", Short: "Use the private PostgreSQL by itself"}
	var o postgres.Options
	execute := &cobra.Command{
		Use:   "exec -- COMMAND [ARGUMENT...]",
		Short: "Run a command beside a private PostgreSQL, which CROSSBILL_TEST_DATABASE_URL names",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			ctx := cmd.Context()
			server, err := postgres.Start(ctx, o)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, server.Stop(context.WithoutCancel(ctx))) }()
			child := exec.CommandContext(ctx, args[0], args[1:]...)
			child.Stdin, child.Stdout, child.Stderr = os.Stdin, cmd.OutOrStdout(), cmd.ErrOrStderr()
			child.Env = append(os.Environ(), "CROSSBILL_TEST_DATABASE_URL="+server.URL)
			child.Cancel = func() error { return child.Process.Signal(os.Interrupt) }
			return child.Run()
		},
	}
	execute.Flags().StringVar(&o.DataDir, "data-dir", "build/test-postgres", "the server's directory")
	execute.Flags().BoolVar(&o.NoFsync, "no-fsync", false, "let commits be lost in a crash of the machine: for tests")
	cmd.AddCommand(execute)
	return cmd
}
