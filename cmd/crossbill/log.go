package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"crossbill/billing"
	"crossbill/cmd/internal/platform"
	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/proof"
	"crossbill/events/wholefile"
)

func logCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "log", Short: "Look after the log"}
	cmd.AddCommand(verifyCommand(), exportCommand(), archiveCommand())
	return cmd
}

func verifyCommand() *cobra.Command {
	var database databaseFlags
	var checkpoint, bundle, key string
	var show bool
	cmd := &cobra.Command{
		Use:   "verify [--checkpoint FILE] [--bundle FILE] [--key KEY]",
		Short: "Prove that the log is the one it was, from the database or from an exported bundle",
		Long: "Without --bundle it reads the whole log from the database (DATABASE_URL, or the data directory's private PostgreSQL)\n" +
			"and computes every leaf, tile and root again. With --checkpoint it compares them with a checkpoint that was kept\n" +
			"elsewhere, from when the log had that size or less.\n\n" +
			"With --bundle it needs no database and no network, only the file and the key: every event in it is proven to be in\n" +
			"the log that the bundle's checkpoint vouches for, and with --checkpoint that the log only grew since that one.",
		Example: "  crossbill log verify --checkpoint kept.txt --key key.txt\n  crossbill log verify --bundle invoice.bundle --key key.txt --show",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			kept, verifierKey, err := readTrusted(checkpoint, bundle, key)
			if err != nil {
				return err
			}
			if bundle != "" {
				return verifyBundle(cmd.OutOrStdout(), bundle, verifierKey, kept, show)
			}
			return database.with(cmd.Context(), func(pool *pgxpool.Pool) error {
				return verifyDatabase(cmd.Context(), cmd.OutOrStdout(), pool, database, kept, verifierKey)
			})
		},
	}
	database.add(cmd.Flags())
	cmd.Flags().StringVar(&checkpoint, "checkpoint", "", "file with a signed checkpoint that was kept")
	cmd.Flags().StringVar(&bundle, "bundle", "", "file with a bundle; \"-\" for standard input")
	cmd.Flags().StringVar(&key, "key", "", "the log's verifier key, which GET /v1/log/key serves, or a file that has it")
	cmd.Flags().BoolVar(&show, "show", false, "print the bundle's events, a JSON object a line")
	return cmd
}

// readTrusted reads what the log is to be held against.
func readTrusted(checkpoint, bundle, key string) (kept []byte, verifierKey string, err error) {
	if key == "" && (checkpoint != "" || bundle != "") {
		return nil, "", domain.Errorf(domain.Invalid, "log verify", "whose signature is to be trusted was not said").
			WithHint("--key takes the log's verifier key, which GET /v1/log/key serves; get it another way than what it is to verify")
	}
	if checkpoint != "" {
		if kept, err = readFile(checkpoint); err != nil {
			return nil, "", err
		}
	}
	verifierKey, err = readKey(key)
	return kept, verifierKey, err
}

// readKey takes a verifier key or the name of a file that has one.
func readKey(key string) (string, error) {
	content, err := os.ReadFile(key)
	if err != nil {
		return key, nil
	}
	return strings.TrimSpace(string(content)), nil
}

func readFile(name string) ([]byte, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, "log", "the file can't be read: %v", err)
	}
	return content, nil
}

func verifyDatabase(ctx context.Context, out io.Writer, pool *pgxpool.Pool, f databaseFlags, kept []byte, key string) error {
	records := events.ArchivedRecordsIn(pool, platform.ArchiveDir(f.archiveDir, f.dataDir))
	proven, err := events.VerifyRecords(ctx, pool, records, kept, key)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "verified %d events, root %x\n", proven.Position, proven.Root)
	if kept == nil {
		fmt.Fprintln(out, "the log agrees with itself; a checkpoint that was kept elsewhere (--checkpoint) shows that it is the one it was")
		return nil
	}
	// Events that came after the checkpoint are verified too, against the head's root, which nobody has vouched for.
	var now int64
	if err := pool.QueryRow(ctx, `SELECT position FROM log_head WHERE log = 'main'`).Scan(&now); err != nil {
		return err
	}
	fmt.Fprintf(out, "the checkpoint vouches for them; the log has %d events more by now\n", now-int64(proven.Position))
	return nil
}

func verifyBundle(out io.Writer, name, key string, kept []byte, show bool) error {
	var file []byte
	var err error
	if name == "-" {
		file, err = io.ReadAll(io.LimitReader(os.Stdin, proof.MaxBundleBytes+1))
	} else {
		file, err = readFile(name)
	}
	if err != nil {
		return err
	}
	v, err := proof.Verify(file, key, kept)
	if err != nil {
		return err
	}
	if show {
		return showEvents(out, v.Events)
	}
	fmt.Fprintf(out, "verified a bundle of %d events: they are in the log of %d events with the root %x\n", len(v.Events), v.Head.Position, v.Head.Root)
	if v.Older != nil {
		fmt.Fprintf(out, "that log is the one that had %d events with the root %x, and only grew\n", v.Older.Position, v.Older.Root)
	}
	for _, s := range v.Streams() {
		gaps := "none between them is left out"
		if !s.Whole() {
			gaps = fmt.Sprintf("%d of them; others between them are left out", s.Count)
		}
		fmt.Fprintf(out, "  %s: versions %d to %d, %s\n", s.Stream, s.First, s.Last, gaps)
	}
	return sayEvidence(out, v.Events)
}

// sayEvidence holds the lines of the invoices in a bundle to the events of it. A bundle is mostly of one line: of the others it
// has some events that they share.
func sayEvidence(out io.Writer, records []events.Record) error {
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		return err
	}
	var all []events.Recorded
	for _, r := range records {
		e, err := codec.Decode(r.Type, r.Schema, r.Payload)
		if err != nil { // of a newer version: it is proven, and not understood
			continue
		}
		all = append(all, events.Recorded{Position: r.Position, Stream: r.Stream, Version: r.Version, Type: r.Type, Event: e, LeafHash: r.LeafHash()})
	}
	for _, e := range all {
		i, ok := e.Event.(invoice.Issued)
		if !ok {
			continue
		}
		for n, held := range billing.EvidenceIn(invoice.Content(i), all) {
			what := fmt.Sprintf("%d of the %d events that it was computed from are here", held.Held, held.Named)
			if held.Whole {
				what = fmt.Sprintf("all %d events that it was computed from are here, and come to its digests", held.Named)
			}
			fmt.Fprintf(out, "  line %d of %s, %s: %s\n", held.Line, i.Number, i.Lines[n].Amount, what)
		}
	}
	return nil
}

// shownEvent is an event as --show prints it: what was proven, as it is read.
type shownEvent struct {
	Position   events.Position `json:"position"`
	ID         uuid.UUID       `json:"id"`
	Stream     string          `json:"stream"`
	Version    int64           `json:"version"`
	Type       string          `json:"type"`
	Schema     int             `json:"schema"`
	RecordedAt time.Time       `json:"recorded_at"`
	Metadata   json.RawMessage `json:"metadata"`
	Data       json.RawMessage `json:"data"`
}

func showEvents(out io.Writer, records []events.Record) error {
	encoder := json.NewEncoder(out)
	for _, r := range records {
		if err := encoder.Encode(shownEvent{
			Position: r.Position, ID: r.ID, Stream: r.Stream, Version: r.Version, Type: r.Type, Schema: r.Schema,
			RecordedAt: r.RecordedAt, Metadata: r.Metadata, Data: r.Payload,
		}); err != nil {
			return err
		}
	}
	return nil
}

func exportCommand() *cobra.Command {
	var database databaseFlags
	var o exportOptions
	cmd := &cobra.Command{
		Use:   "export --out FILE [--stream STREAM]... [--positions FROM-TO]...",
		Short: "Write events with their proofs to a bundle, which anyone with the log's key can verify",
		Long: "Writes a bundle of events: whole streams, single positions, ranges of them. It is signed with the log's key in the data\n" +
			"directory, or is made under a checkpoint that is given. The same events under the same checkpoint are the same bytes.\n" +
			"A bundle holds events in full, for whoever gets the file to read.",
		Example: "  crossbill log export --out order.bundle --stream order-ord_… --stream connection-con_…\n" +
			"  crossbill log export --out since.bundle --positions 1-100 --since kept.txt",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return database.with(cmd.Context(), func(pool *pgxpool.Pool) error {
				records := events.ArchivedRecordsIn(pool, platform.ArchiveDir(database.archiveDir, database.dataDir))
				return o.export(cmd.Context(), cmd.OutOrStdout(), pool, records, database.dataDir)
			})
		},
	}
	database.add(cmd.Flags())
	cmd.Flags().StringVar(&o.out, "out", "", "the file to write; \"-\" for standard output")
	cmd.Flags().StringArrayVar(&o.streams, "stream", nil, "all events of a stream; may be repeated")
	cmd.Flags().StringSliceVar(&o.positions, "positions", nil, "a position or a range of them (10-20); may be repeated")
	cmd.Flags().StringVar(&o.checkpoint, "checkpoint", "", "file with the signed checkpoint to prove against (default: the log as it is now, signed with the data directory's key)")
	cmd.Flags().StringVar(&o.since, "since", "", "file with an older checkpoint: the bundle shows that the log only grew since")
	cmd.Flags().StringVar(&o.key, "key", "", "the log's verifier key or a file that has it, if the data directory does not have the log's key")
	cmd.MarkFlagRequired("out")
	return cmd
}

type exportOptions struct {
	out, checkpoint, since, key string
	streams, positions          []string
}

func (o exportOptions) export(ctx context.Context, out io.Writer, pool *pgxpool.Pool, records events.Records, dataDir string) error {
	if len(o.streams)+len(o.positions) == 0 {
		return domain.Errorf(domain.Invalid, "log export", "what is to be exported was not said").
			WithHint("--stream takes a stream's name, --positions a position or a range")
	}
	x, err := o.trusted(ctx, pool, dataDir)
	if err != nil {
		return err
	}
	head, err := events.ParseCheckpoint(x.Checkpoint, x.Key)
	if err != nil {
		return err
	}
	prover := proof.NewProver(pool, records)
	for _, s := range o.streams {
		positions, err := prover.PositionsOf(ctx, s, head.Position)
		if err != nil {
			return err
		}
		x.Positions = append(x.Positions, positions...)
	}
	for _, p := range o.positions {
		positions, err := parsePositions(p, head.Position)
		if err != nil {
			return err
		}
		x.Positions = append(x.Positions, positions...)
	}
	bundle, err := prover.Bundle(ctx, x)
	if err != nil {
		return err
	}
	file := bundle.Encode()
	if _, err := proof.Verify(file, x.Key, x.Since); err != nil { // before anyone else does
		return err
	}
	if o.out == "-" {
		_, err = out.Write(file)
		return err
	}
	if err := writeWhole(o.out, file); err != nil {
		return err
	}
	fmt.Fprintf(out, "wrote %d events with proofs for the log of %d events, root %x\nverify it with: crossbill log verify --bundle %s --key %s\n",
		len(bundle.Events), head.Position, head.Root, o.out, x.Key)
	return nil
}

// trusted reads the checkpoint to prove against, or signs the log's head.
func (o exportOptions) trusted(ctx context.Context, pool *pgxpool.Pool, dataDir string) (x proof.Export, err error) {
	const op = "log export"
	if o.since != "" {
		if x.Since, err = readFile(o.since); err != nil {
			return x, err
		}
	}
	if x.Key, err = readKey(o.key); err != nil {
		return x, err
	}
	path := filepath.Join(dataDir, platform.LogKeyFile)
	_, err = os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && (o.key == "" || o.checkpoint == "") {
		return x, domain.Errorf(domain.NotFound, op, "the log's key is not at %s", path).
			WithHint("name the data directory with --data-dir, or give a --checkpoint (GET /v1/log/checkpoint) and the --key it is signed with")
	}
	if err == nil && (o.key == "" || o.checkpoint == "") {
		signer, err := events.LoadOrCreateSigner(path, platform.LogOrigin)
		if err != nil {
			return x, err
		}
		if x.Key == "" {
			x.Key = signer.VerifierKey()
		}
		if o.checkpoint == "" {
			head, err := proof.NewProver(pool, events.RecordsIn(pool)).Head(ctx)
			if err != nil {
				return x, err
			}
			x.Checkpoint, err = events.SignCheckpoint(head, signer)
			return x, err
		}
	}
	x.Checkpoint, err = readFile(o.checkpoint)
	return x, err
}

// parsePositions reads "10" or "10-20".
func parsePositions(text string, last events.Position) ([]events.Position, error) {
	from, to, ranged := strings.Cut(text, "-")
	if !ranged {
		to = from
	}
	first, err := strconv.ParseInt(from, 10, 64)
	end, endErr := strconv.ParseInt(to, 10, 64)
	if err = errors.Join(err, endErr); err != nil || first < 1 || end < first {
		return nil, domain.Errorf(domain.Invalid, "log export", "%.40q is no position and no range of them", text).WithHint("as 10 or 10-20")
	}
	if events.Position(end) > last {
		return nil, domain.Errorf(domain.NotFound, "log export", "the checkpoint is of %d events and there is none at position %d", last, end)
	}
	if end-first >= proof.MaxBundleEvents {
		return nil, domain.Errorf(domain.Invalid, "log export", "%s are more than %d events, the limit of a bundle", text, proof.MaxBundleEvents)
	}
	var positions []events.Position
	for p := first; p <= end; p++ {
		positions = append(positions, events.Position(p))
	}
	return positions, nil
}

// writeWhole makes the file readable by its owner: events are not everybody's to read.
func writeWhole(name string, content []byte) error {
	if err := wholefile.Replace(name, content); err != nil {
		return domain.Errorf(domain.Invalid, "log export", "%s can't be written: %v", name, err)
	}
	return nil
}
