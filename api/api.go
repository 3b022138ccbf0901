// Package api serves Crossbill over HTTP.
//
// The contract is openapi.yaml, written first; server.gen.go and the client package are generated from it. Handlers are
// thin: check who asks, load states from the log, let a domain package decide, append, answer. Nothing here computes a
// price, drives a connection or keeps a state of its own, and nothing gets in by another door: the command line, the
// demo and the edge agent use the generated client.
//
// A request passes, in this order: size limit, routing, authentication and scope (auth.go), the contract's own
// constraints (validate.go), idempotency (idempotency.go), waiting for a log position (api.go), the handler. Start
// reading at [New], then at PlaceOrder in orders.go.
package api

import (
	"context"
	"crypto/rand"
	_ "embed"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/gorilla/mux"
	"github.com/jackc/pgx/v5/pgxpool"

	"crossbill/api/authority"
	"crossbill/api/webhooks"
	"crossbill/billing/pdf"
	"crossbill/billing/stripe"
	"crossbill/domain"
	"crossbill/domain/edgeidentity"
	"crossbill/events"
	"crossbill/events/proof"
	"crossbill/projections"
)

//go:embed openapi.yaml
var contract []byte

// Limits of the HTTP surface.
const (
	MaxBodyBytes    = 1 << 20          // of a request
	MaxWait         = 5 * time.Second  // for at_position
	maxStreams      = 200              // open event streams a node
	streamHeartbeat = 15 * time.Second // between signs of life on a quiet stream
	maxBundleEvents = 20_000           // in a bundle that is served; a month of readings every five minutes is half of it
)

// Waiter blocks until the read models include a log position; see projections.Runner.
type Waiter interface {
	WaitFor(ctx context.Context, position events.Position, names ...string) error
}

// Options are what a server is made of. Log, Pool and Waiter are required.
type Options struct {
	Log             *events.Log
	Pool            *pgxpool.Pool
	Waiter          Waiter
	VerifierKey     string               // of the log's checkpoints
	Stripe          *stripe.Mover        // nil: invoices can't be paid through the platform
	StripeSecret    string               // of the webhook's endpoint at Stripe (whsec_…); "": no webhooks are taken
	PublicURL       string               // where this API is reached from outside, without a slash at its end; "": documents lead nowhere
	Webhooks        *webhooks.Sender     // default: one that sends to public addresses only
	Prover          *proof.Prover        // default: over the pool's own events
	ReadingInterval time.Duration        // of the edge's meters; default 5 minutes
	Authority       *authority.Authority // signs edge nodes' certificates; nil: none can join
	CertificateLife time.Duration        // of those; default edgeidentity.CertificateLife
	Now             func() time.Time     // default time.Now
	Random          io.Reader            // default crypto/rand
	Logger          *slog.Logger
}

// Server implements the contract's operations.
type Server struct {
	Options
	accounts   accounts
	identities remembered[identity] // by edge node
	// Queries answers from the read models as the request's caller: row-level security leaves out what it may not see.
	Queries *projections.Queries
	// Platform answers with the platform's own rights. It is for decisions over what others have, such as how much of a
	// provider's port is taken; what it finds is never shown.
	Platform *projections.Queries
	door     projections.Door
	doc      *openapi3.T
	router   routers.Router
	streams  chan struct{} // a token per open event stream
	metered  meteredStates
	fonts    func() (*pdf.Fonts, error) // of documents; read once they are needed
}

var _ StrictServerInterface = (*Server)(nil)

// New returns the handler that serves the whole contract.
// It returns an error only if the embedded contract is broken.
func New(o Options) (http.Handler, error) {
	s, err := newServer(o)
	if err != nil {
		return nil, err
	}
	return s.handler(), nil
}

func newServer(o Options) (*Server, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.ReadingInterval == 0 {
		o.ReadingInterval = 5 * time.Minute
	}
	if o.CertificateLife == 0 {
		o.CertificateLife = edgeidentity.CertificateLife
	}
	if o.Webhooks == nil {
		o.Webhooks = webhooks.NewSender(false)
	}
	if o.Prover == nil {
		o.Prover = proof.NewProver(o.Pool, o.Log.Records())
	}
	doc, err := Contract()
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, domain.Errorf(domain.Internal, "api.New", "the embedded contract is not valid: %w", err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		return nil, domain.Errorf(domain.Internal, "api.New", "the embedded contract can't be routed: %w", err)
	}
	door := projections.Door{Pool: o.Pool}
	return &Server{
		Options: o, Queries: &projections.Queries{DB: door}, Platform: &projections.Queries{DB: o.Pool}, door: door,
		doc: doc, router: router, streams: make(chan struct{}, maxStreams),
		fonts: sync.OnceValues(func() (*pdf.Fonts, error) { return pdf.NewFonts(o.Logger, pdf.SystemFontDirs...) }),
	}, nil
}

func (s *Server) handler() http.Handler {
	strict := NewStrictHandlerWithOptions(s, nil, StrictHTTPServerOptions{
		RequestErrorHandlerFunc: func(w http.ResponseWriter, r *http.Request, err error) {
			s.fail(w, r, domain.Errorf(domain.Invalid, "api", "the request can't be read: %w", err))
		},
		ResponseErrorHandlerFunc: s.failOrReplay,
	})
	m := mux.NewRouter()
	m.NotFoundHandler = http.HandlerFunc(s.notFound)
	m.MethodNotAllowedHandler = http.HandlerFunc(s.methodNotAllowed)
	HandlerWithOptions(strict, GorillaServerOptions{
		BaseRouter: m,
		ErrorHandlerFunc: func(w http.ResponseWriter, r *http.Request, err error) {
			s.fail(w, r, domain.Errorf(domain.Invalid, "api", "%s", err.Error()))
		},
	})
	m.Use(s.match, s.authenticate, s.validate, s.idempotent, s.awaitPosition, s.ingest)
	root := http.NewServeMux()
	root.HandleFunc("GET /openapi.yaml", serveContract)
	root.HandleFunc("GET "+tilePrefix+"tile/", s.serveTile)
	root.HandleFunc("POST "+stripeWebhookPath, s.stripeWebhook)
	root.Handle("/", m)
	return s.guard(root)
}

// Contract returns the contract that this build serves. Its error means that the embedded file is broken.
func Contract() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromData(contract)
	if err != nil {
		return nil, domain.Errorf(domain.Internal, "api.Contract", "the embedded contract can't be read: %w", err)
	}
	return doc, nil
}

// matched is the contract's operation that a request is for, and the values in its path.
type matched struct {
	route  *routers.Route
	params map[string]string
}

type matchedKey struct{}

func matchedFrom(ctx context.Context) matched { return ctx.Value(matchedKey{}).(matched) }

// match finds the contract's operation for the middlewares after it.
func (s *Server) match(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		route, params, err := s.router.FindRoute(r)
		if err != nil {
			s.notFound(w, r)
			return
		}
		ctx := context.WithValue(r.Context(), matchedKey{}, matched{route, params})
		ctx = context.WithValue(ctx, acceptKey{}, r.Header.Get("Accept"))
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func serveContract(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	w.Write(contract)
}

// guard bounds the body and turns a panic into a problem, so that one bad request never takes the node down.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				s.fail(w, r, domain.Errorf(domain.Internal, "api", "panic: %v", p))
			}
		}()
		if r.Body != nil {
			r.Body = http.MaxBytesReader(w, r.Body, MaxBodyBytes)
		}
		next.ServeHTTP(w, r)
	})
}

// awaitPosition makes a read see the caller's own writes: it waits until the read models include at_position.
func (s *Server) awaitPosition(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if v := r.URL.Query().Get("at_position"); v != "" {
			position, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				s.fail(w, r, domain.Errorf(domain.Invalid, "api", "at_position must be a log position"))
				return
			}
			ctx, cancel := context.WithTimeout(r.Context(), MaxWait)
			defer cancel()
			if err := s.Waiter.WaitFor(ctx, events.Position(position)); err != nil {
				s.fail(w, r, domain.Errorf(domain.Unavailable, "api", "the read models have not reached position %d yet", position).
					WithHint("try again in a moment"))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// now is the request's time in UTC, at the log's precision.
func (s *Server) now() time.Time { return s.Now().UTC().Truncate(time.Microsecond) }

func (s *Server) newID(prefix string) (string, error) { return domain.NewID(prefix, s.now(), s.Random) }
