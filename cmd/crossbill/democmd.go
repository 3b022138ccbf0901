package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"crossbill/cmd/internal/platform"
	"crossbill/domain"
	"crossbill/events/postgres"
)

func demoCommand() *cobra.Command {
	var out string
	var software bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "List, sell, provision, meter, rebill and settle one connection, and show each step",
		Long: "Plays the main job end to end through the public API: on Linux as root with a real edge in network namespaces,\n" +
			"elsewhere with the software edge. The last line on standard output is one JSON object.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo(cmd.Context(), demoOptions{OutDir: out, Software: software, Stdout: cmd.OutOrStdout()})
		},
	}
	cmd.Flags().StringVar(&out, "out", "build/demo", "directory for the invoice, the CSV files and the run's own data")
	cmd.Flags().BoolVar(&software, "software", false, "use the software edge even where the real one can run")
	return cmd
}

func runCommand() *cobra.Command {
	var dir, listen string
	var software bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "The demo's system, seeded and left running in the foreground",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo(cmd.Context(), demoOptions{OutDir: dir, Listen: listen, Software: software, Stdout: cmd.OutOrStdout(), Stay: true})
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", "build/run", "directory for the run's own data, made anew")
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "address to serve on")
	cmd.Flags().BoolVar(&software, "software", false, "use the software edge even where the real one can run")
	return cmd
}

type demoOptions struct {
	OutDir   string
	Listen   string // "" takes a free port on loopback
	Software bool
	Stay     bool // leave it running after the connection is up, until the context ends
	Stdout   io.Writer
}

// demo plays the main job. It returns an error when anything is off; the caller's exit status says so.
func demo(ctx context.Context, o demoOptions) (err error) {
	story := newStory(o.Stdout)
	outDir, err := filepath.Abs(o.OutDir)
	if err != nil {
		return err
	}
	dataDir := filepath.Join(outDir, "data")
	if err := prepareDemoDir(ctx, dataDir); err != nil {
		return err
	}
	logFile, err := os.Create(filepath.Join(outDir, "demo.log"))
	if err != nil {
		return err
	}
	defer logFile.Close()
	logger := slog.New(slog.NewTextHandler(logFile, nil))

	network, err := newDemoNetwork(ctx, o.Software, filepath.Join(dataDir, "network"), logFile, story)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, network.close()) }()

	listen := []string{"127.0.0.1:0"}
	if o.Listen != "" {
		listen[0] = o.Listen
	}
	p, err := platform.Start(ctx, platform.Config{
		DataDir: dataDir, Listen: listen, EdgeListen: []string{network.listenOn() + ":0"}, ReadingInterval: demoReadingInterval, Logger: logger,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	story.say("Platform", "serves %s on a private PostgreSQL", p.URL)

	d := &scene{story: story, platform: p, network: network, outDir: outDir}
	if err := d.play(ctx, o); err != nil {
		return fmt.Errorf("%w (the run's log is %s)", err, logFile.Name())
	}
	return nil
}

// play goes through the stages.
func (d *scene) play(ctx context.Context, o demoOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wire := &wireSampler{read: d.network.wireBytes}
	go wire.run(ctx)

	if err := d.stageInventory(ctx); err != nil {
		return err
	}
	if err := d.stageOrder(ctx); err != nil {
		return err
	}
	if err := d.follow(ctx); err != nil {
		return err
	}
	if err := d.stageConnection(ctx); err != nil {
		return err
	}
	if o.Stay {
		return d.stay(ctx)
	}
	result := demoResult{Edge: d.network.edge()}
	var err error
	if result.BGP, err = d.network.bgp(ctx); err != nil {
		return err
	}
	end, wireBytes, err := d.stageTraffic(ctx, wire)
	if err != nil {
		return err
	}
	readings, err := d.readingsUntil(ctx, end)
	if err != nil {
		return err
	}
	result.BytesWire = wireBytes
	for _, r := range readings {
		result.BytesMetered += uint64(r.BytesIn + r.BytesOut)
	}
	if err := d.stageBooks(ctx, end, &result); err != nil {
		return err
	}
	if err := d.stageTermination(ctx); err != nil {
		return err
	}
	if err := d.stageProof(ctx, &result); err != nil {
		return err
	}
	return d.conclude(result, o.Stdout)
}

// conclude compares what must be equal and prints the last line.
func (d *scene) conclude(r demoResult, out io.Writer) error {
	var wrong []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	check(r.BytesWire >= demoLeast, "only %d bytes were on the wire", r.BytesWire)
	check(r.BytesWire == r.BytesMetered, "%d bytes on the wire, %d metered", r.BytesWire, r.BytesMetered)
	check(r.BytesMetered == r.BytesBilled, "%d bytes metered, %d billed", r.BytesMetered, r.BytesBilled)
	check(r.Passthrough == r.Settlement, "passthrough is %s, settlement %s", r.Passthrough, r.Settlement)
	check(r.Events == r.LogSize, "%d events were read, the log has %d", r.Events, r.LogSize)
	check(r.LogVerified, "the log was not verified")
	check(r.Edge != "ebpf" || r.BGP == "established", "BGP is %s", r.BGP)
	r.OK = len(wrong) == 0
	if r.OK {
		d.story.say("Everyone", "sees the same: %d bytes on the wire = metered = billed; %s %s paid through = settled",
			r.BytesWire, r.Passthrough, r.Currency)
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, string(line))
	return errors.Join(wrong...)
}

// stay prints how to use the running system, and leaves it running.
func (d *scene) stay(ctx context.Context) error {
	d.story.say("Platform", "is seeded and stays up; end it with Ctrl-C")
	fmt.Fprintf(d.story.out, "\n  address       %s\n  contract      %s/openapi.yaml\n  operator key  %s\n  provider key  %s\n  customer key  %s\n\n  curl -H 'Authorization: Bearer %s' %s/v1/connections\n\n",
		d.platform.URL, d.platform.URL, d.platform.OperatorKey, d.providerKey, d.customerKey, d.customerKey, d.platform.URL)
	<-ctx.Done()
	return nil
}

// prepareDemoDir empties the directory of an earlier run's own data. A private PostgreSQL that a killed run left there is
// stopped by starting on its directory and stopping again; its data is not wanted any more.
func prepareDemoDir(ctx context.Context, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "postgres")); err == nil {
		server, err := postgres.Start(ctx, postgres.Options{DataDir: dir})
		if domain.CodeOf(err) == domain.Unavailable {
			return err // another demo is running here
		}
		if err == nil {
			if err := server.Stop(ctx); err != nil {
				return err
			}
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.MkdirAll(dir, 0o755)
}
