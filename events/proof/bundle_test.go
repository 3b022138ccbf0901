package proof_test

import (
	"bytes"
	"encoding/base64"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"crossbill/domain"
	"crossbill/events"
	"crossbill/events/proof"
)

// bundle exports the events at some positions.
func (b *bench) bundle(x proof.Export) []byte {
	b.t.Helper()
	if x.Checkpoint == nil {
		x.Checkpoint = b.checkpoint()
	}
	x.Key = b.signer.VerifierKey()
	made, err := b.prover.Bundle(b.t.Context(), x)
	must(b.t, err)
	return made.Encode()
}

func TestBundleProvesItsEvents(t *testing.T) {
	t.Parallel()
	b := newBench(t, 600)
	older := b.checkpoint()
	b.grow(700)
	checkpoint := b.checkpoint()
	file := b.bundle(proof.Export{Positions: []events.Position{1300, 7, 256, 257, 7}, Checkpoint: checkpoint, Since: older})
	for name, kept := range map[string][]byte{"nothing": nil, "the older checkpoint": older, "its own checkpoint": checkpoint} {
		v, err := proof.Verify(file, b.signer.VerifierKey(), kept)
		if err != nil {
			t.Fatalf("beside %s: %v", name, err)
		}
		if v.Head.Position != 1300 || len(v.Events) != 4 || (v.Older != nil) != (kept != nil) {
			t.Errorf("beside %s: %+v", name, v)
		}
		for i, want := range []events.Position{7, 256, 257, 1300} {
			stored, err := b.prover.Record(t.Context(), want)
			must(t, err)
			if r := v.Events[i]; r.Position != want || !bytes.Equal(r.Encode(), stored.Encode()) || !strings.Contains(string(r.Payload), "text") {
				t.Errorf("event %d is %+v", i, r)
			}
		}
	}
	b.grow(1000)
	if again := b.bundle(proof.Export{Positions: []events.Position{7, 256, 257, 1300}, Checkpoint: checkpoint, Since: older}); !bytes.Equal(again, file) {
		t.Error("the same request gave other bytes when the log had grown")
	}
	if nothing, err := proof.Verify(b.bundle(proof.Export{}), b.signer.VerifierKey(), nil); err != nil || len(nothing.Events) != 0 {
		t.Errorf("a bundle of no events: %+v, %v", nothing, err)
	}
}

// TestEveryFlipInABundle flips every bit of every byte. Each is refused, and one in an event names its position.
func TestEveryFlipInABundle(t *testing.T) {
	t.Parallel()
	b := newBench(t, 20)
	older := b.checkpoint()
	b.grow(25)
	file := b.bundle(proof.Export{Positions: []events.Position{3, 40}, Since: older})
	key := b.signer.VerifierKey()
	_, err := proof.Verify(file, key, nil)
	must(t, err)
	hints, positions := 0, 0
	for i := range file {
		for bit := range 8 {
			file[i] ^= 1 << bit
			_, err := proof.Verify(file, key, nil)
			code := domain.CodeOf(err)
			if code != domain.Invalid && code != domain.Conflict {
				t.Fatalf("bit %d of byte %d (%q): %v", bit, i, file[max(0, i-20):i+1], err)
			}
			if strings.Contains(err.Error(), "hint:") {
				hints++
			}
			if code == domain.Conflict && (strings.Contains(err.Error(), "position 3 ") || strings.Contains(err.Error(), "position 40 ")) {
				positions++
			}
			file[i] ^= 1 << bit
		}
	}
	if hints < 6*len(file) || positions < len(file) {
		t.Errorf("of %d flips %d have a hint and %d a position", 8*len(file), hints, positions)
	}
	for i := range file {
		if _, err := proof.Verify(slices.Delete(slices.Clone(file), i, i+1), key, nil); err == nil {
			t.Errorf("without byte %d it is accepted", i)
		}
		if _, err := proof.Verify(slices.Insert(slices.Clone(file), i, file[i]), key, nil); err == nil {
			t.Errorf("with byte %d twice it is accepted", i)
		}
	}
	if _, err := proof.Verify(append(file, '\n'), key, nil); err == nil {
		t.Error("with a line more it is accepted")
	}
}

// TestForgedBundles are well-formed and hold together in part.
func TestForgedBundles(t *testing.T) {
	t.Parallel()
	b := newBench(t, 300)
	older := b.checkpoint()
	b.grow(300)
	checkpoint, key := b.checkpoint(), b.signer.VerifierKey()
	sound, err := b.prover.Bundle(t.Context(), proof.Export{Positions: []events.Position{5, 6}, Checkpoint: checkpoint, Since: older, Key: key})
	must(t, err)
	other := newBench(t, 600)
	otherBundle, err := other.prover.Bundle(t.Context(), proof.Export{Positions: []events.Position{5}, Checkpoint: other.checkpoint(), Key: other.signer.VerifierKey()})
	must(t, err)
	rewrite := func(change func(*events.Record)) []byte {
		r, err := events.ParseRecord(sound.Events[0].Record)
		must(t, err)
		change(&r)
		return r.Encode()
	}
	for name, c := range map[string]struct {
		change func(*proof.Bundle)
		want   string
	}{
		"another payload": {func(x *proof.Bundle) {
			x.Events[0].Record = rewrite(func(r *events.Record) { r.Payload = []byte(`{"text":"0"}`) })
		}, "position 5 "},
		"another metadata": {func(x *proof.Bundle) {
			x.Events[0].Record = rewrite(func(r *events.Record) { r.Metadata = []byte(`{}`) })
		}, "position 5 "},
		"another time": {func(x *proof.Bundle) {
			x.Events[0].Record = rewrite(func(r *events.Record) { r.RecordedAt = r.RecordedAt.Add(1000) })
		}, "position 5 "},
		"another salt":           {func(x *proof.Bundle) { x.Events[0].Record = rewrite(func(r *events.Record) { r.Salt[0]++ }) }, "position 5 "},
		"another's place":        {func(x *proof.Bundle) { x.Events[0].Position = 4 }, "position 4 has the record of position 5"},
		"the next one's record":  {func(x *proof.Bundle) { x.Events[0].Record = x.Events[1].Record }, "position 5 has the record of position 6"},
		"the next one's proof":   {func(x *proof.Bundle) { x.Events[0].Hashes = x.Events[1].Hashes }, "position 5 "},
		"a record cut short":     {func(x *proof.Bundle) { x.Events[1].Record = x.Events[1].Record[:50] }, "position 6 "},
		"another log's event":    {func(x *proof.Bundle) { x.Events[0] = otherBundle.Events[0] }, "position 5 "},
		"order":                  {func(x *proof.Bundle) { x.Events[0], x.Events[1] = x.Events[1], x.Events[0] }, "7 or more"},
		"twice":                  {func(x *proof.Bundle) { x.Events[1] = x.Events[0] }, "6 or more"},
		"another log's note":     {func(x *proof.Bundle) { x.Checkpoint = otherBundle.Checkpoint }, "not signed"},
		"an older note":          {func(x *proof.Bundle) { x.Checkpoint = older }, "position 5 "},
		"growth from other root": {func(x *proof.Bundle) { x.Grown.From.Root[4]++ }, "300 events"},
		"growth by no hashes":    {func(x *proof.Bundle) { x.Grown.Hashes = nil }, "300 events"},
	} {
		x := sound
		x.Events, x.Grown = slices.Clone(sound.Events), &proof.Growth{From: sound.Grown.From, Hashes: sound.Grown.Hashes}
		c.change(&x)
		_, err := proof.Verify(x.Encode(), key, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for name, bad := range map[string]string{
		"nothing": "", "another version": strings.Replace(string(sound.Encode()), "@v1", "@v2", 1), "carriage returns": strings.ReplaceAll(string(sound.Encode()), "\n", "\r\n"),
		"a carriage return in a record": strings.Replace(string(sound.Encode()), "record AQ", "record A\rQ", 1),
		"a number as 05":                strings.Replace(string(sound.Encode()), "event 5\n", "event 05\n", 1), "only a note": string(checkpoint),
		"growth twice":    strings.Replace(string(sound.Encode()), "consistency", "consistency 0 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\nconsistency", 1),
		"too many hashes": strings.Replace(string(sound.Encode()), "record", "record AA==\n"+strings.Repeat(base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n", 64)+"\nevent 6\nrecord", 1),
	} {
		if _, err := proof.Verify([]byte(bad), key, nil); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBundleBesideACheckpoint has a log whose history was changed, in all that the database holds.
func TestBundleBesideACheckpoint(t *testing.T) {
	t.Parallel()
	b := newBench(t, 300)
	kept, key := b.checkpoint(), b.signer.VerifierKey()
	sign := func(size events.Position, root [32]byte) []byte {
		signed, err := events.SignCheckpoint(events.Head{Position: size, Root: root}, b.signer)
		must(t, err)
		return signed
	}
	forged := sign(300, [32]byte{1})
	b.grow(100)
	with := b.bundle(proof.Export{Positions: []events.Position{5}, Since: kept})
	without := b.bundle(proof.Export{Positions: []events.Position{5}})
	for name, c := range map[string]struct {
		file, older []byte
		code        domain.Code
	}{
		"another history":               {with, forged, domain.Conflict},
		"another history, not proven":   {without, forged, domain.Invalid},
		"not proven":                    {without, kept, domain.Invalid},
		"another history of that size":  {without, sign(400, [32]byte{1}), domain.Conflict},
		"a later checkpoint":            {without, sign(401, [32]byte{1}), domain.Invalid},
		"another size":                  {with, sign(299, [32]byte{1}), domain.Invalid},
		"an empty log that is not":      {with, sign(0, [32]byte{1}), domain.Conflict},
		"no checkpoint":                 {with, []byte("x"), domain.Invalid},
		"from the beginning, and sound": {without, sign(0, rootOf(nil)), ""},
	} {
		_, err := proof.Verify(c.file, key, c.older)
		if domain.CodeOf(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
	}
	for name, x := range map[string]proof.Export{
		"another history":       {Checkpoint: forged},
		"grown from another":    {Checkpoint: b.checkpoint(), Since: forged},
		"more than there is":    {Checkpoint: sign(401, [32]byte{1})},
		"grown from the future": {Checkpoint: kept, Since: b.checkpoint()},
		"a position to come":    {Checkpoint: kept, Positions: []events.Position{301}},
		"no position":           {Checkpoint: kept, Positions: []events.Position{0}},
		"no checkpoint":         {Checkpoint: []byte("x")},
		"too many":              {Checkpoint: kept, Positions: manyPositions()},
	} {
		x.Key = key
		if _, err := b.prover.Bundle(t.Context(), x); err == nil {
			t.Errorf("a bundle of %s was made", name)
		}
	}
	b.exec(`UPDATE events SET payload = set_bit(payload, 12, 1 - get_bit(payload, 12)) WHERE position = 5`)
	_, err := b.prover.Bundle(t.Context(), proof.Export{Positions: []events.Position{5}, Checkpoint: kept, Key: key})
	if domain.CodeOf(err) != domain.Internal || !strings.Contains(err.Error(), "position 5 ") {
		t.Errorf("a changed event was handed out: %v", err)
	}
}

func manyPositions() []events.Position {
	all := make([]events.Position, proof.MaxBundleEvents+1)
	for i := range all {
		all[i] = events.Position(i + 1)
	}
	return all
}

// TestCosignedCheckpoint: a checkpoint with a witness's signature is a checkpoint, but not one for a bundle, in which
// every byte counts.
func TestCosignedCheckpoint(t *testing.T) {
	t.Parallel()
	b := newBench(t, 3)
	witness, err := events.LoadOrCreateSigner(t.TempDir()+"/key", "witness.test")
	must(t, err)
	n, err := note.Open(b.checkpoint(), verifiers(t, b.signer.VerifierKey()))
	must(t, err)
	cosigned, err := note.Sign(n, witness)
	must(t, err)
	_, err = events.ParseCheckpoint(cosigned, b.signer.VerifierKey())
	must(t, err)
	_, err = events.CanonicalCheckpoint(cosigned, b.signer.VerifierKey())
	requireCode(t, err, domain.Invalid)

	// The last character before the padding has two bits that no byte gets.
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	spare := b.checkpoint()
	at := len(spare) - len("x=\n")
	spare[at] = alphabet[strings.IndexByte(alphabet, spare[at])+1]
	_, err = events.ParseCheckpoint(spare, b.signer.VerifierKey())
	must(t, err)
	_, err = events.CanonicalCheckpoint(spare, b.signer.VerifierKey())
	requireCode(t, err, domain.Invalid)
}

func verifiers(t *testing.T, key string) note.Verifiers {
	v, err := note.NewVerifier(key)
	must(t, err)
	return note.VerifierList(v)
}

func TestStreamsOfABundle(t *testing.T) {
	t.Parallel()
	b := newBench(t, 30) // note-a has 1 to 30
	positions, err := b.prover.PositionsOf(t.Context(), "note-a", 25)
	must(t, err)
	if len(positions) != 25 || positions[24] != 25 {
		t.Errorf("positions %v", positions)
	}
	_, err = b.prover.PositionsOf(t.Context(), "note-z", 25)
	requireCode(t, err, domain.NotFound)
	v, err := proof.Verify(b.bundle(proof.Export{Positions: []events.Position{2, 3, 4}}), b.signer.VerifierKey(), nil)
	must(t, err)
	if s := v.Streams(); len(s) != 1 || s[0] != (proof.StreamRange{Stream: "note-a", First: 2, Last: 4, Count: 3}) || !s[0].Whole() {
		t.Errorf("streams %+v", s)
	}
	v, err = proof.Verify(b.bundle(proof.Export{Positions: []events.Position{2, 4}}), b.signer.VerifierKey(), nil)
	must(t, err)
	if s := v.Streams(); len(s) != 1 || s[0].Whole() {
		t.Errorf("streams %+v", s)
	}
}

// TestGoldenBundle keeps a bundle verifiable for good: files that people have kept must not go stale.
func TestGoldenBundle(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("testdata/golden.bundle")
	must(t, err)
	key, err := os.ReadFile("testdata/golden.key")
	must(t, err)
	v, err := proof.Verify(file, strings.TrimSpace(string(key)), nil)
	must(t, err)
	if len(v.Events) != 2 || v.Events[1].Position != 19 || string(v.Events[1].Payload) != `{"text":"2"}` || v.Head.Position != 20 {
		t.Errorf("%+v", v)
	}
}

func FuzzParseBundle(f *testing.F) {
	golden, err := os.ReadFile("testdata/golden.bundle")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add([]byte("crossbill-log-bundle@v1\n\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		b, err := proof.ParseBundle(file)
		if err == nil && !bytes.Equal(b.Encode(), file) {
			t.Errorf("a bundle that is written otherwise than it is read: %q", file)
		}
	})
}
