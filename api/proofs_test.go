package api_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"crossbill/api/client"
	"crossbill/billing"
	"crossbill/domain/invoice"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/proof"
)

func decodeHash(t *testing.T, text string) (h proof.Hash) {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	must(t, err)
	if len(b) != len(h) {
		t.Fatalf("%q is no hash", text)
	}
	return proof.Hash(b)
}

func decodeHashes(t *testing.T, texts []string) (hashes []proof.Hash) {
	t.Helper()
	for _, text := range texts {
		hashes = append(hashes, decodeHash(t, text))
	}
	return hashes
}

func (m *market) text(path string) string {
	m.t.Helper()
	status, p, body := m.do("", "GET", path, nil)
	if status != http.StatusOK {
		m.t.Fatalf("%s answered %d: %s", path, status, p.Detail)
	}
	return string(body)
}

// checkpoint is the log's head, as anyone may learn it.
func (m *market) checkpoint() (signed string, key string, head events.Head) {
	m.t.Helper()
	signed, key = m.text("/v1/log/checkpoint"), strings.TrimSpace(m.text("/v1/log/key"))
	head, err := events.ParseCheckpoint([]byte(signed), key)
	must(m.t, err)
	return signed, key, head
}

// TestProofsForAnyone gets proofs and tiles without a key and checks them against checkpoints.
func TestProofsForAnyone(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	_, _, older := m.checkpoint()
	m.place()
	_, _, head := m.checkpoint()
	anyone := m.client("")
	ctx := context.Background()
	for _, position := range []int64{1, 2, int64(older.Position), int64(head.Position)} {
		size := int64(head.Position)
		p, _, err := client.Decode[client.InclusionProof](anyone.GetInclusionProof(ctx, &client.GetInclusionProofParams{Position: position, Size: &size}))
		must(t, err)
		i := proof.Inclusion{Position: events.Position(position), Size: head.Position, Leaf: decodeHash(t, p.LeafHash), Root: head.Root, Hashes: decodeHashes(t, p.Hashes)}
		must(t, i.Check())
		if decodeHash(t, p.Root) != head.Root || p.Size != size || p.Position != position {
			t.Errorf("proof %+v", p)
		}
	}
	to := int64(head.Position)
	grown, _, err := client.Decode[client.ConsistencyProof](anyone.GetConsistencyProof(ctx, &client.GetConsistencyProofParams{From: int64(older.Position), To: &to}))
	must(t, err)
	c := proof.Consistency{From: older.Position, FromRoot: older.Root, To: head.Position, ToRoot: head.Root, Hashes: decodeHashes(t, grown.Hashes)}
	must(t, c.Check())
	if grown.From != int64(older.Position) || grown.To != to || decodeHash(t, grown.FromRoot) != older.Root || decodeHash(t, grown.ToRoot) != head.Root {
		t.Errorf("proof %+v", grown)
	}

	var leaves []byte
	must(t, events.RecordsIn(m.pool).Range(ctx, 1, head.Position, func(r events.StoredRecord) error {
		hash := r.Record.LeafHash()
		leaves = append(leaves, hash[:]...)
		return nil
	}))
	checkpoint, err := http.Get(m.url + "/v1/log/checkpoint")
	must(t, err)
	checkpoint.Body.Close()
	if h := checkpoint.Header; h.Get("Content-Type") != "text/plain; charset=utf-8" || h.Get("Cache-Control") != "no-cache" {
		t.Errorf("the checkpoint has the headers %v", h)
	}

	tilePath := fmt.Sprintf("/v1/log/tile/0/000.p/%d", head.Position)
	response, err := http.Get(m.url + tilePath) // beside the contract
	must(t, err)
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	must(t, err)
	if response.Header.Get("Content-Type") != "application/octet-stream" || !strings.Contains(response.Header.Get("Cache-Control"), "immutable") {
		t.Errorf("%s has the headers %v", tilePath, response.Header)
	}
	if response.StatusCode != http.StatusOK || string(got) != string(leaves) {
		t.Errorf("%s has %d bytes, which are not the leaf hashes", tilePath, len(got))
	}
}

func TestProofsThatCantBe(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	before := int64(m.head())
	past := fmt.Sprint(before + 100)
	for path, want := range map[string]int{
		"/v1/log/proof/inclusion":                                422,
		"/v1/log/proof/inclusion?position=0":                     422,
		"/v1/log/proof/inclusion?position=x":                     422,
		"/v1/log/proof/inclusion?position=9223372036854775808":   422,
		"/v1/log/proof/inclusion?position=1&size=0":              422,
		"/v1/log/proof/inclusion?position=5&size=3":              422,
		"/v1/log/proof/inclusion?position=9223372036854775807":   404,
		"/v1/log/proof/inclusion?position=1&size=" + past:        404,
		"/v1/log/proof/inclusion?position=" + past:               404,
		"/v1/log/proof/consistency":                              422,
		"/v1/log/proof/consistency?from=-1":                      422,
		"/v1/log/proof/consistency?from=5&to=3":                  422,
		"/v1/log/proof/consistency?from=1&to=" + past:            404,
		"/v1/log/proof/consistency?from=" + past:                 404,
		"/v1/log/tile/":                                          404,
		"/v1/log/tile/0/000":                                     404,
		"/v1/log/tile/0/000.p/" + past:                           404,
		"/v1/log/tile/0/000.p/0":                                 404,
		"/v1/log/tile/0/000.p/256":                               404,
		"/v1/log/tile/0/0.p/1":                                   404,
		"/v1/log/tile/00/000.p/1":                                404,
		"/v1/log/tile/1/000.p/1":                                 404,
		"/v1/log/tile/8/000.p/1":                                 404,
		"/v1/log/tile/-1/000":                                    404,
		"/v1/log/tile/data/000":                                  404,
		"/v1/log/tile/entries/000.p/1":                           404,
		"/v1/log/tile/0/x999/x999/x999/x999/x999/x999/x999/999":  404,
		"/v1/log/tile/0/" + strings.Repeat("x001/", 200) + "001": 404,
	} {
		status, p, _ := m.do("", "GET", path, nil)
		m.refused(path, before, status, p, want)
	}
	for path, want := range map[string]int{
		"/v1/events/0/proof": 422, "/v1/events/x/proof": 422, "/v1/events/-1/proof": 422, "/v1/events/" + past + "/proof": 404,
		"/v1/events/1/proof?since=-1": 422, "/v1/events/1/proof?since=" + past: 422, "/v1/events/9223372036854775807/proof": 404,
	} {
		status, p, _ := m.do(m.operatorKey, "GET", path, nil)
		m.refused(path, before, status, p, want)
	}
}

// TestEventProofs asks for every event of the log by every kind of caller: each gets those of its slice, as bundles that
// prove them, and for the others the answer of an event that is not there.
func TestEventProofs(t *testing.T) {
	t.Parallel()
	m := newMarket(t).open()
	older, key, since := m.checkpoint()
	m.place()
	past := int64(m.head()) + 1
	for who, caller := range map[string]string{"customer": m.customerKey, "provider": m.providerKey, "stranger": m.strangerKey, "operator": m.operatorKey} {
		_, _, body := m.do(caller, "GET", "/v1/events?limit=500", nil)
		var page client.EventPage
		must(t, json.Unmarshal(body, &page))
		visible := map[int64]client.Event{}
		for _, e := range page.Items {
			visible[e.Position] = e
		}
		_, _, ofNothing := m.do(caller, "GET", fmt.Sprintf("/v1/events/%d/proof", past), nil)
		shown := 0
		for position := int64(1); position < past; position++ {
			status, _, body := m.do(caller, "GET", fmt.Sprintf("/v1/events/%d/proof?since=%d", position, since.Position), nil)
			e, seen := visible[position]
			if !seen {
				like := strings.ReplaceAll(string(ofNothing), fmt.Sprintf("event %d", past), fmt.Sprintf("event %d", position))
				if status != http.StatusNotFound || string(body) != like {
					t.Errorf("%s, position %d: status %d, %s; for nothing it is %s", who, position, status, body, like)
				}
				continue
			}
			shown++
			v, err := proof.Verify(body, key, []byte(older))
			must(t, err)
			if len(v.Events) != 1 || v.Older.Position != since.Position || v.Events[0].Type != e.Type || v.Events[0].Stream != e.Stream || v.Events[0].ID != [16]byte(e.Id) {
				t.Errorf("%s, position %d: %+v", who, position, v)
			}
		}
		if shown != len(visible) || (shown == 0) != (who == "stranger" && len(visible) == 0) {
			t.Errorf("%s: %d of %d events were proven", who, shown, len(visible))
		}
		if all := int(past - 1); who == "operator" && shown != all {
			t.Errorf("the operator sees %d of %d events", shown, all)
		}
		if who != "operator" && shown == int(past-1) {
			t.Errorf("%s sees everything", who)
		}
	}
}

// checkEvidence holds a line's evidence to the events of its bundle alone: it is whole, and not with one event less, or with a
// leaf that is another's.
func (m *market) checkEvidence(line int, records []events.Record) {
	m.t.Helper()
	codec, err := events.NewCodec(vocabulary.Events()...)
	must(m.t, err)
	var all []events.Recorded
	var issued invoice.Content
	for _, r := range records {
		e, err := codec.Decode(r.Type, r.Schema, r.Payload)
		must(m.t, err)
		if i, ok := e.(invoice.Issued); ok {
			issued = invoice.Content(i)
		}
		all = append(all, events.Recorded{Position: r.Position, Stream: r.Stream, Version: r.Version, Type: r.Type, Event: e, LeafHash: r.LeafHash()})
	}
	whole := func(all []events.Recorded) bool { return billing.EvidenceIn(issued, all)[line-1].Whole }
	if !whole(all) {
		m.t.Errorf("line %d: the evidence in its bundle is %+v", line, billing.EvidenceIn(issued, all)[line-1])
	}
	for n, e := range all {
		if strings.HasPrefix(e.Stream, "invoice-") {
			continue
		}
		if whole(slices.Delete(slices.Clone(all), n, n+1)) {
			m.t.Errorf("line %d: its evidence is whole without %s at position %d", line, e.Type, e.Position)
		}
		other := slices.Clone(all)
		other[n].LeafHash[0] ^= 1
		if whole(other) {
			m.t.Errorf("line %d: its evidence is whole with another leaf at position %d", line, e.Position)
		}
	}
	for n := range issued.Lines[line-1].Evidence {
		altered := issued
		altered.Lines = slices.Clone(issued.Lines)
		l := &altered.Lines[line-1]
		l.Evidence = slices.Clone(l.Evidence)
		l.Evidence[n].Digest = strings.Repeat("0", len(l.Evidence[n].Digest))
		if billing.EvidenceIn(altered, all)[line-1].Whole {
			m.t.Errorf("line %d: its evidence is whole with another digest of %s", line, l.Evidence[n].Stream)
		}
	}
}

// checkLineBundles verifies the bundles of an invoice's lines, away from the platform, against what the lines say of their
// evidence.
func (m *market) checkLineBundles(invoice client.Invoice) {
	m.t.Helper()
	_, key, _ := m.checkpoint()
	for _, line := range invoice.Lines {
		path := fmt.Sprintf("/v1/invoices/%s/lines/%d/bundle", invoice.Id, line.Number)
		status, p, body := m.do(m.customerKey, "GET", path, nil)
		if status != http.StatusOK {
			m.t.Errorf("%s answered %d: %s", path, status, p.Detail)
			continue
		}
		v, err := proof.Verify(body, key, nil)
		must(m.t, err)
		explained, _, err := client.Decode[client.Explanation](m.customer.ExplainInvoiceLine(context.Background(), invoice.Id, line.Number))
		must(m.t, err)
		for _, e := range explained.Events {
			at := slices.IndexFunc(v.Events, func(r events.Record) bool { return int64(r.Position) == e.Position })
			if at < 0 {
				m.t.Errorf("%s lacks position %d", path, e.Position)
				continue
			}
			if leaf := sha256.Sum256(append([]byte{0}, v.Events[at].Encode()...)); fmt.Sprintf("%x", leaf) != e.LeafHash {
				m.t.Errorf("%s has another event at position %d", path, e.Position)
			}
		}
		m.checkEvidence(line.Number, v.Events)
		issued := slices.ContainsFunc(v.Events, func(r events.Record) bool { return r.Stream == "invoice-"+invoice.Id && r.Type == "invoice.issued" })
		if !issued || len(v.Events) <= len(explained.Events) {
			m.t.Errorf("%s does not have the invoice", path)
		}
		status, p, _ = m.do(m.strangerKey, "GET", path, nil)
		m.refused(path+" for a stranger", int64(m.head()), status, p, http.StatusNotFound)
	}
	status, p, _ := m.do(m.customerKey, "GET", fmt.Sprintf("/v1/invoices/%s/lines/999/bundle", invoice.Id), nil)
	m.refused("a line that is not there", int64(m.head()), status, p, http.StatusNotFound)
}
