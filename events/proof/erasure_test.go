package proof_test

import (
	"bytes"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/subject"
	"crossbill/domain/vocabulary"
	"crossbill/events"
	"crossbill/events/proof"
	"crossbill/events/vault"
)

// TestErasureLeavesProofs erases a person whose event is proven. Every proof from before still holds, the same ones are
// made after it, and no bundle has ever had the name in it.
func TestErasureLeavesProofs(t *testing.T) {
	t.Parallel()
	b := newBench(t, 5)
	keys, err := vault.Open(t.Context(), b.pool, vault.KeyFile(filepath.Join(t.TempDir(), "vault.key")), vault.Options{})
	must(t, err)
	t.Cleanup(keys.Close)
	codec, err := events.NewCodec(append(vocabulary.Events(), []domain.Event{noted{}})...)
	must(t, err)
	b.log, err = events.Open(t.Context(), b.pool, codec, events.Options{Signer: b.signer, Vault: keys})
	must(t, err)
	t.Cleanup(b.log.Close)
	org := domain.DeriveID(domain.PrefixOrganisation, time.Unix(0, 0), "org")
	issued := apikey.Issued{OrganisationID: org, Principal: apikey.Principal{Kind: apikey.KindPerson, ID: "ada", Name: "Ada Lovelace-Byron"}}
	r, err := b.log.Append(t.Context(), events.Append{Streams: []events.StreamAppend{
		{Stream: "api_key-a", Expected: events.NoStream, Events: []events.NewEvent{{Event: issued}}},
	}})
	must(t, err)
	b.grow(5)

	size := r.Last + 5
	export := proof.Export{Positions: []events.Position{r.Last}, Checkpoint: b.checkpoint(), Key: b.signer.VerifierKey()}
	inclusion, err := b.prover.Inclusion(t.Context(), r.Last, size)
	must(t, err)
	must(t, inclusion.Check())
	bundle, err := b.prover.Bundle(t.Context(), export)
	must(t, err)

	_, err = b.log.Erase(t.Context(), subject.Erase{Subject: subject.Of(org, "ada"), By: "operator", Reason: subject.ReasonRequest, At: time.Now()}, false)
	must(t, err)
	page, err := b.log.ReadAll(t.Context(), r.Last-1, 1)
	must(t, err)
	if name := page[0].Event.(apikey.Issued).Principal.Name; name != domain.Erased {
		t.Errorf("the name reads %q", name)
	}
	again, err := b.prover.Inclusion(t.Context(), r.Last, size)
	must(t, err)
	must(t, again.Check())
	if !reflect.DeepEqual(again, inclusion) || again.Leaf != page[0].LeafHash {
		t.Errorf("the proof was %+v and is %+v", inclusion, again)
	}
	after, err := b.prover.Bundle(t.Context(), export)
	must(t, err)
	if !bytes.Equal(after.Encode(), bundle.Encode()) {
		t.Error("the same bundle is another one after the erasure")
	}
	verified, err := proof.Verify(bundle.Encode(), b.signer.VerifierKey(), nil)
	must(t, err)
	if p := verified.Events[0].Payload; bytes.Contains(p, []byte("Lovelace")) || !bytes.Contains(p, []byte(org)) {
		t.Errorf("the bundle has %s", p)
	}
}
