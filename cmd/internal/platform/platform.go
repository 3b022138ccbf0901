// Package platform runs a node of the platform: database, log, read models, sagas, billing runs and the API. `crossbill serve`
// is little else, and what measures a platform as a whole runs the same one. Start reading at [Start].
package platform

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/api"
	"crossbill/api/authority"
	"crossbill/api/webhooks"
	"crossbill/billing"
	"crossbill/billing/runs"
	"crossbill/billing/stripe"
	"crossbill/billing/usage"
	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/organisation"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/postgres"
	"crossbill/events/proof"
	"crossbill/events/vault"
	"crossbill/migrations"
	"crossbill/projections"
	"crossbill/provisioning"
)

// OperatorKeyFile is where the operator's API key is kept, in the data directory.
const OperatorKeyFile = "operator.key"

// LogKeyFile is where the key that signs checkpoints is kept, in the data directory.
const LogKeyFile = "log.key"

// MasterKeyFile is where the master key is kept, in the data directory, unless the environment has it.
const MasterKeyFile = "vault.key"

// edgeAuthorityFile is where the key is kept, in the data directory, that edge nodes' certificates are signed with.
const edgeAuthorityFile = "edge-authority.pem"

// LogOrigin names the log in its checkpoints (C2SP tlog-checkpoint); it has the form of a host's URL without scheme.
const LogOrigin = "crossbill.example/log"

// Limits of a node.
const (
	maxConnections    = 20               // to PostgreSQL
	readHeaderTimeout = 10 * time.Second // for a request's header
	shutdownTimeout   = 10 * time.Second // for what is under way when the node stops
)

// Config is what `crossbill serve` is told.
type Config struct {
	DataDir         string   // keys, and the private PostgreSQL if there is one
	ArchiveDir      string   // of the log's archives; "": DataDir/archive
	DatabaseURL     string   // "" starts a private PostgreSQL
	Listen          []string // host:port; port 0 takes a free one
	EdgeListen      []string // likewise, over TLS with the edge authority's certificate: for edge nodes, which have certificates of it
	ReadingInterval time.Duration
	CertificateLife time.Duration // of edge nodes; 0: edgeidentity.CertificateLife
	PublicURL       string        // of the API as it is reached from outside; "": documents lead nowhere
	StripeKey       string        // "" leaves payments out
	StripeURL       string        // "" is Stripe's own
	StripeSecret    string        // of the webhook endpoint at Stripe; "": no webhooks are taken, and payments are noticed hourly
	// WebhooksAnywhere lets webhooks be sent by plain HTTP and into private networks.
	WebhooksAnywhere bool
	Logger           *slog.Logger
}

// Platform is a running node. Its parts are stopped in the reverse of the order they were started in.
type Platform struct {
	URL         string   // of the first address
	URLs        []string // of all addresses, in the order they were given
	EdgeURLs    []string // of those for edge nodes
	OperatorKey string
	Pool        *pgxpool.Pool
	Log         *events.Log

	verifierKey string // of the log's checkpoints
	stops       []func(context.Context) error
}

// Start starts a node: database, migrations, log, projections, provisioning, HTTP.
func Start(ctx context.Context, c Config) (_ *Platform, err error) {
	p := &Platform{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Stop())
		}
	}()
	if err := os.MkdirAll(c.DataDir, 0o755); err != nil {
		return nil, err
	}
	url := c.DatabaseURL
	if url == "" {
		server, err := postgres.Start(ctx, postgres.Options{DataDir: c.DataDir})
		if err != nil {
			return nil, err
		}
		p.stops = append(p.stops, server.Stop)
		url = server.URL
	}
	if err := p.openLog(ctx, url, c); err != nil {
		return nil, err
	}

	provisioner, err := provisioning.New(provisioning.Options{Pool: p.Pool, Log: p.Log, Logger: c.Logger})
	if err != nil {
		return nil, err
	}
	biller, err := runs.New(runs.Options{Pool: p.Pool, Log: p.Log, Logger: c.Logger})
	if err != nil {
		return nil, err
	}
	follow := append(projections.All(), provisioner.Projection(), biller.Projection())
	money, err := moneyWorker(c, p.Log, p.Pool)
	if err != nil {
		return nil, err
	}
	if money != nil {
		follow = append(follow, money.Projection())
	}
	runner, err := projections.NewRunner(projections.RunnerOptions{Pool: p.Pool, Log: p.Log, Logger: c.Logger, Projections: follow})
	if err != nil {
		return nil, err
	}
	p.background(runner.Run)
	if err := provisioner.Start(ctx); err != nil {
		return nil, err
	}
	p.stops = append(p.stops, provisioner.Stop)
	if err := biller.Start(ctx); err != nil {
		return nil, err
	}
	p.stops = append(p.stops, biller.Stop)

	p.background(provisioning.SilenceWatch{Pool: p.Pool, Log: p.Log, Logger: c.Logger}.Run)
	budgets := billing.BudgetWatch{Pool: p.Pool, Log: p.Log, Meters: usage.Store{Pool: p.Pool, Log: p.Log}, Queries: projections.Queries{DB: p.Pool}, Logger: c.Logger}
	p.background(budgets.Run)
	p.background(func(ctx context.Context) error { return usage.Store{Pool: p.Pool, Log: p.Log}.Run(ctx, c.Logger) })
	if p.OperatorKey, err = operatorKey(ctx, p.Log, filepath.Join(c.DataDir, OperatorKeyFile)); err != nil {
		return nil, err
	}
	prover := proof.NewProver(p.Pool, p.Log.Records())
	p.background(func(ctx context.Context) error { return prover.Follow(ctx, p.Log, c.Logger) })
	sender := webhooks.NewSender(c.WebhooksAnywhere)
	p.background(webhooks.New(webhooks.Options{Log: p.Log, Pool: p.Pool, Sender: sender, Waiter: runner, Logger: c.Logger}).Run)
	var mover *stripe.Mover
	if money != nil {
		mover = money.Mover
		p.background(money.Run)
	}
	edges, err := authority.Open(filepath.Join(c.DataDir, edgeAuthorityFile))
	if err != nil {
		return nil, err
	}
	handler, err := api.New(api.Options{
		Authority: edges, CertificateLife: c.CertificateLife,
		Webhooks: sender,
		Log:      p.Log, Pool: p.Pool, Waiter: runner, VerifierKey: p.verifierKey, Prover: prover,
		Stripe: mover, StripeSecret: c.StripeSecret, ReadingInterval: c.ReadingInterval, Logger: c.Logger,
		PublicURL: strings.TrimSuffix(c.PublicURL, "/"),
	})
	if err != nil {
		return nil, err
	}
	return p, p.serve(handler, edges, c)
}

// moneyWorker returns what moves money through Stripe, nil if there is no key.
func moneyWorker(c Config, log *events.Log, pool *pgxpool.Pool) (*stripe.Worker, error) {
	if c.StripeKey == "" {
		return nil, nil
	}
	client, err := stripe.New(stripe.Options{Key: c.StripeKey, URL: c.StripeURL})
	if err != nil {
		return nil, err
	}
	return stripe.NewWorker(client, log, pool, c.Logger), nil
}

// vanished makes PostgreSQL give up a connection within four seconds when the machine at its other end is gone without a
// word, and with it the transaction and the locks: another node waits for them, to take a projection over or to append.
// (A process that dies closes its connections, and a Unix socket needs none of this.) The URL may say otherwise.
var vanished = map[string]string{
	"tcp_keepalives_idle": "2", "tcp_keepalives_interval": "1", "tcp_keepalives_count": "2", // seconds, seconds, probes
	"tcp_user_timeout": "4000", // milliseconds, for what was sent and not acknowledged
}

func poolConfig(url string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, "platform.Start", "the database URL can't be read: %w", err).
			WithHint("it has the form postgres://user:password@host/database")
	}
	config.MaxConns = maxConnections
	for name, value := range vanished {
		if _, given := config.ConnConfig.RuntimeParams[name]; !given {
			config.ConnConfig.RuntimeParams[name] = value
		}
	}
	return config, nil
}

// openLog connects, migrates and opens the log with its signing key.
func (p *Platform) openLog(ctx context.Context, url string, c Config) error {
	config, err := poolConfig(url)
	if err != nil {
		return err
	}
	if p.Pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return domain.Errorf(domain.Unavailable, "platform.Start", "can't connect to the database: %w", err)
	}
	p.stops = append(p.stops, func(context.Context) error { p.Pool.Close(); return nil })
	if err := migrations.Apply(ctx, p.Pool); err != nil {
		return err
	}
	if err := errors.Join(provisioning.Migrate(ctx, p.Pool), runs.Migrate(ctx, p.Pool)); err != nil {
		return err
	}
	codec, err := events.NewCodec(vocabulary.Events()...)
	if err != nil {
		return err
	}
	signer, err := events.LoadOrCreateSigner(filepath.Join(c.DataDir, LogKeyFile), LogOrigin)
	if err != nil {
		return err
	}
	p.verifierKey = signer.VerifierKey()
	keys, err := vault.Open(ctx, p.Pool, MasterKeySource(c.DataDir), vault.Options{Logger: c.Logger})
	if err != nil {
		return err
	}
	p.stops = append(p.stops, func(context.Context) error { keys.Close(); return nil })
	if p.Log, err = events.Open(ctx, p.Pool, codec, events.Options{Signer: signer, Logger: c.Logger, Vault: keys, ArchiveDir: ArchiveDir(c.ArchiveDir, c.DataDir)}); err != nil {
		return err
	}
	p.stops = append(p.stops, func(context.Context) error { p.Log.Close(); return nil })
	return nil
}

// background runs f until the platform stops.
func (p *Platform) background(f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	p.stops = append(p.stops, func(context.Context) error {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
}

func (p *Platform) serve(handler http.Handler, edges *authority.Authority, c Config) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: readHeaderTimeout, ErrorLog: slog.NewLogLogger(c.Logger.Handler(), slog.LevelWarn)}
	// Streams and long polls end with this context, so that a stop need not wait for them.
	base, cancel := context.WithCancel(context.Background())
	server.BaseContext = func(net.Listener) context.Context { return base }
	p.stops = append(p.stops, func(ctx context.Context) error {
		cancel()
		return server.Shutdown(ctx)
	})
	listen := func(address, flag string) (net.Listener, error) {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return nil, domain.Errorf(domain.Unavailable, "platform.Start", "can't listen on %s: %w", address, err).
				WithHint("choose another with %s", flag)
		}
		return listener, nil
	}
	serve := func(listener net.Listener) {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			c.Logger.Error("the server ended", "address", listener.Addr(), "error", err)
		}
	}
	for _, address := range c.Listen {
		listener, err := listen(address, "--listen")
		if err != nil {
			return err
		}
		p.URLs = append(p.URLs, "http://"+listener.Addr().String())
		go serve(listener)
	}
	for _, address := range c.EdgeListen {
		listener, err := listen(address, "--edge-listen")
		if err != nil {
			return err
		}
		p.EdgeURLs = append(p.EdgeURLs, "https://"+listener.Addr().String())
		go serve(tls.NewListener(listener, edges.ServerConfig()))
	}
	p.URL = p.URLs[0]
	return nil
}

// Stop stops every part, the last started first.
func (p *Platform) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	var errs []error
	for len(p.stops) > 0 {
		last := len(p.stops) - 1
		errs = append(errs, p.stops[last](ctx))
		p.stops = p.stops[:last]
	}
	return errors.Join(errs...)
}

// operatorKey returns the operator's API key from the file, making key, file and the operator's organisation when they
// are not there yet. The file is for its owner's eyes only.
func operatorKey(ctx context.Context, log *events.Log, path string) (string, error) {
	if content, err := os.ReadFile(path); err == nil {
		return strings.TrimSpace(string(content)), nil
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	org := domain.DeriveID(domain.PrefixOrganisation, time.Unix(0, 0), "operator")
	register, err := organisation.Decide(organisation.State{}, organisation.Register{
		OrganisationID: org, Name: "Operator", Slug: "operator", Roles: []organisation.Role{organisation.RoleOperator}, At: now,
	})
	if err != nil {
		return "", err
	}
	_, err = log.Append(ctx, events.Append{Streams: []events.StreamAppend{
		{Stream: organisation.Stream(org), Expected: events.NoStream, Events: []events.NewEvent{{Event: register[0]}}},
	}})
	if err != nil && domain.CodeOf(err) != domain.Conflict { // another node, or an earlier run, has registered it
		return "", err
	}

	_, token, stream, err := api.NewKey(now, rand.Reader, org, apikey.Principal{Kind: apikey.KindOperator, ID: "operator", Name: "Operator"}, api.ScopeOperate)
	if err != nil {
		return "", err
	}
	if _, err := log.Append(ctx, events.Append{Streams: []events.StreamAppend{stream}}); err != nil {
		return "", err
	}
	return token, os.WriteFile(path, []byte(token+"\n"), 0o600)
}

// MasterKeySource says where the master key is: in the environment if it is there, else in the data directory.
func MasterKeySource(dataDir string) vault.Source {
	if keys := os.Getenv(vault.MasterKeyVariable); keys != "" {
		return vault.Keys(keys)
	}
	return vault.KeyFile(filepath.Join(dataDir, MasterKeyFile))
}

// ArchiveDir is where the log's archives are: as told, or in the data directory.
func ArchiveDir(told, dataDir string) string {
	if told != "" {
		return told
	}
	return filepath.Join(dataDir, "archive")
}
