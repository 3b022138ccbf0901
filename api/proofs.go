package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"crossbill/billing"
	"crossbill/domain"
	"crossbill/domain/invoice"
	"crossbill/events"
	"crossbill/events/proof"
	"crossbill/events/tile"
)

// tilePrefix is where tiles are served: the log's prefix (C2SP tlog-tiles) is /v1/log.
const tilePrefix = "/v1/log/"

// serveTile serves a hash tile. It is routed beside the contract's operations, because the index of a tile is as many path
// elements as it takes. Tiles are everybody's, as checkpoints are: a leaf hash is salted.
func (s *Server) serveTile(w http.ResponseWriter, r *http.Request) {
	t, ok := tile.Parse(strings.TrimPrefix(r.URL.Path, tilePrefix))
	if !ok {
		s.fail(w, r, domain.Errorf(domain.NotFound, "api.serveTile", "%.80q is no tile", r.URL.Path).
			WithHint("tiles are at /v1/log/tile/<level>/<index>, with .p/<width> unless complete: https://c2sp.org/tlog-tiles"))
		return
	}
	data, err := s.Prover.Tile(r.Context(), t)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Write(data)
}

// GetInclusionProof proves that an event is in the log. Who has the event can tell that it is that one.
func (s *Server) GetInclusionProof(ctx context.Context, req GetInclusionProofRequestObject) (GetInclusionProofResponseObject, error) {
	i, err := s.Prover.Inclusion(ctx, events.Position(req.Params.Position), events.Position(valueOr(req.Params.Size, 0)))
	if err != nil {
		return nil, err
	}
	return GetInclusionProof200JSONResponse{
		Position: int64(i.Position), Size: int64(i.Size), LeafHash: hashView(i.Leaf), Root: hashView(i.Root), Hashes: hashViews(i.Hashes),
	}, nil
}

// GetConsistencyProof proves that the log only grew between two sizes.
func (s *Server) GetConsistencyProof(ctx context.Context, req GetConsistencyProofRequestObject) (GetConsistencyProofResponseObject, error) {
	c, err := s.Prover.Consistency(ctx, events.Position(req.Params.From), events.Position(valueOr(req.Params.To, 0)))
	if err != nil {
		return nil, err
	}
	return GetConsistencyProof200JSONResponse{
		From: int64(c.From), To: int64(c.To), FromRoot: hashView(c.FromRoot), ToRoot: hashView(c.ToRoot), Hashes: hashViews(c.Hashes),
	}, nil
}

func hashView(h proof.Hash) string { return base64.StdEncoding.EncodeToString(h[:]) }

func hashViews(hashes []proof.Hash) []string {
	views := make([]string, len(hashes))
	for i, h := range hashes {
		views[i] = hashView(h)
	}
	return views
}

// GetEventProof serves one event of the caller's slice with its proof.
func (s *Server) GetEventProof(ctx context.Context, req GetEventProofRequestObject) (GetEventProofResponseObject, error) {
	bundle, err := s.bundle(ctx, []events.Position{events.Position(req.Position)}, req.Params.Since)
	if err != nil {
		return nil, err
	}
	return GetEventProof200TextResponse(bundle), nil
}

// BundleInvoiceLine serves the events of an invoice, and of what one line of it was computed from, with their proofs.
func (s *Server) BundleInvoiceLine(ctx context.Context, req BundleInvoiceLineRequestObject) (BundleInvoiceLineResponseObject, error) {
	state, _, err := s.loadInvoice(ctx, req.InvoiceId)
	if err != nil {
		return nil, err
	}
	explained, err := billing.Explain(ctx, s.Log, state.Content, req.Line)
	if err != nil {
		return nil, err
	}
	issued, err := s.Log.ReadStream(ctx, invoice.Stream(req.InvoiceId), 0, events.MaxRead)
	if err != nil {
		return nil, err
	}
	var positions []events.Position
	for _, e := range issued {
		positions = append(positions, e.Position)
	}
	for _, e := range explained.Events {
		positions = append(positions, e.Position)
	}
	bundle, err := s.bundle(ctx, positions, nil)
	if err != nil {
		return nil, err
	}
	return BundleInvoiceLine200TextResponse(bundle), nil
}

// bundle makes a bundle of events under a checkpoint of this moment. An event that the caller may not see is as unknown as
// one that is not there, and then there is no bundle.
func (s *Server) bundle(ctx context.Context, positions []events.Position, since *int64) (string, error) {
	const op = "api.bundle"
	if len(positions) > maxBundleEvents {
		return "", domain.Errorf(domain.Invalid, op, "a bundle of %d events; the limit is %d", len(positions), maxBundleEvents).
			WithHint("an operator exports larger ones: crossbill log export")
	}
	wanted := slices.Clone(positions)
	slices.Sort(wanted)
	wanted = slices.Compact(wanted)
	visible, err := s.seen(ctx).Visible(ctx, wanted)
	if err != nil {
		return "", err
	}
	if !slices.Equal(visible, wanted) {
		return "", notFound("event", strconv.FormatInt(int64(positions[len(positions)-1]), 10))
	}
	checkpoint, err := s.Log.Checkpoint(ctx)
	if err != nil {
		return "", err
	}
	x := proof.Export{Positions: positions, Checkpoint: checkpoint, Key: s.VerifierKey}
	if since != nil {
		x.SinceSize = (*events.Position)(since)
	}
	b, err := s.Prover.Bundle(ctx, x)
	if domain.CodeOf(err) == domain.NotFound {
		return "", notFound("event", strconv.FormatInt(int64(positions[len(positions)-1]), 10))
	}
	if err != nil {
		return "", err
	}
	for _, e := range b.Events {
		if err := checkVisible(callerFrom(ctx), e); err != nil {
			return "", err
		}
	}
	return string(b.Encode()), nil
}

// checkVisible returns NotFound unless the event is in the caller's slice of the log.
func checkVisible(c Caller, e proof.BundledEvent) error {
	const op = "api.checkVisible"
	r, err := events.ParseRecord(e.Record)
	if err != nil {
		return domain.Errorf(domain.Internal, op, "the record of position %d can't be read: %w", e.Position, err)
	}
	var m events.Metadata
	if err := json.Unmarshal(r.Metadata, &m); err != nil {
		return domain.Errorf(domain.Internal, op, "the metadata of position %d can't be read: %w", e.Position, err)
	}
	if !eventVisible(c, events.Recorded{Metadata: m}) {
		return notFound("event", strconv.FormatInt(int64(e.Position), 10))
	}
	return nil
}
