package events

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"crossbill/domain"
	"crossbill/events/wholefile"
)

// Signer signs checkpoints with a key of its own. Its name is the log's origin.
type Signer struct {
	note.Signer
	verifierKey string
}

// VerifierKey returns the public key, in the text form of package note, by which others verify checkpoints.
func (s *Signer) VerifierKey() string { return s.verifierKey }

// LoadOrCreateSigner reads the signing key from a file, and makes both when there is no file yet. origin names the log
// in its checkpoints, as a host name and path without a scheme; it belongs to the key and can't be changed later.
// The key is an Ed25519 key. Whoever can read the file can sign in the log's name, so only its owner may.
//
// Errors: Invalid if the file holds no key or the key of another origin; Internal if it can't be read or made.
func LoadOrCreateSigner(path, origin string) (*Signer, error) {
	const op = "events.LoadOrCreateSigner"
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = createKey(path, origin)
	}
	if err != nil {
		return nil, domain.Errorf(domain.Internal, op, "the signing key %s: %w", path, err)
	}
	s, err := parseSigner(strings.TrimSpace(string(key)))
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, op, "%s does not hold a signing key: %w", path, err)
	}
	if s.Name() != origin {
		return nil, domain.Errorf(domain.Invalid, op, "the key in %s is that of the log %q, not %q", path, s.Name(), origin).
			WithHint("a log keeps its origin; use the old one")
	}
	return s, nil
}

// createKey makes the file. Of several processes that do it at once, the first one's stays.
func createKey(path, origin string) ([]byte, error) {
	key, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return nil, err
	}
	if err := wholefile.Create(path, []byte(key+"\n")); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.ReadFile(path)
}

// parseSigner reads "PRIVATE+KEY+<name>+<hash>+<algorithm and seed>" and finds the public key that belongs to it.
func parseSigner(key string) (*Signer, error) {
	signer, err := note.NewSigner(key)
	if err != nil {
		return nil, err
	}
	fields := strings.SplitN(key, "+", 5) // the last one is base64, which has plus signs of its own
	data, err := base64.StdEncoding.DecodeString(fields[4])
	if err != nil || len(data) != 1+ed25519.SeedSize {
		return nil, errors.New("it is no Ed25519 key")
	}
	public := ed25519.NewKeyFromSeed(data[1:]).Public().(ed25519.PublicKey)
	verifier, err := note.NewEd25519VerifierKey(signer.Name(), public)
	if err != nil {
		return nil, err
	}
	return &Signer{signer, verifier}, nil
}

// Checkpoint returns the log's head, signed, in the form of C2SP tlog-checkpoint: a signed note whose text is the
// origin, the number of events and the root hash in base64, a line each.
// It returns an Unavailable error if the head can't be read, and an Internal one if the log was opened without a signer.
func (l *Log) Checkpoint(ctx context.Context) ([]byte, error) {
	const op = "events.Checkpoint"
	if l.options.Signer == nil {
		return nil, domain.Errorf(domain.Internal, op, "the log has no key to sign with")
	}
	head, err := l.Head(ctx)
	if err != nil {
		return nil, err
	}
	return SignCheckpoint(head, l.options.Signer)
}

// SignCheckpoint signs a head that was read otherwise than from an open log; see [Log.Checkpoint].
func SignCheckpoint(head Head, signer *Signer) ([]byte, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", signer.Name(), head.Position, base64.StdEncoding.EncodeToString(head.Root[:]))
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		return nil, domain.Errorf(domain.Internal, "events.SignCheckpoint", "the checkpoint can't be signed: %w", err)
	}
	return signed, nil
}

const hintCheckpoint = "it was changed since it was signed, or the key is another log's"

// ParseCheckpoint checks a checkpoint's signature and returns the head it vouches for.
// It returns an Invalid error if the key is none, if it did not sign the note, or if the note is no checkpoint.
func ParseCheckpoint(signed []byte, verifierKey string) (Head, error) {
	const op = "events.ParseCheckpoint"
	verifier, err := note.NewVerifier(verifierKey)
	if err != nil {
		return Head{}, domain.Errorf(domain.Invalid, op, "%.80q is no verifier key: %w", verifierKey, err).
			WithHint("GET /v1/log/key serves the log's: <origin>+<8 digits>+<base64>")
	}
	n, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return Head{}, domain.Errorf(domain.Invalid, op, "the checkpoint is not signed by %s: %w", verifier.Name(), err).
			WithHint(hintCheckpoint)
	}
	// Lines after the third are extensions, which say nothing about the tree.
	lines := strings.SplitN(n.Text, "\n", 4)
	if len(lines) < 4 || lines[0] != verifier.Name() {
		return Head{}, domain.Errorf(domain.Invalid, op, "the note is no checkpoint of %s", verifier.Name()).WithHint(hintCheckpoint)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	root, rootErr := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || rootErr != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] || len(root) != 32 {
		return Head{}, domain.Errorf(domain.Invalid, op, "the note is no checkpoint: it has the size %.30q and the root %.60q", lines[1], lines[2]).
			WithHint(hintCheckpoint)
	}
	return Head{Position(size), [32]byte(bytes.Clone(root))}, nil
}

// CanonicalCheckpoint returns a checkpoint if its bytes are the only ones that say what it says: signed with the key and
// nobody else's, each part written in the one way it can be. (A note may carry signatures that only others can check, and
// its base64 may end in bits that nothing reads.) It returns an Invalid error otherwise, as [ParseCheckpoint] does.
func CanonicalCheckpoint(signed []byte, verifierKey string) ([]byte, error) {
	const op = "events.CanonicalCheckpoint"
	if _, err := ParseCheckpoint(signed, verifierKey); err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(verifierKey)
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, op, "%.80q is no verifier key: %w", verifierKey, err)
	}
	n, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, op, "the checkpoint is not signed by %s: %w", verifier.Name(), err)
	}
	text := []byte(n.Text + "\n")
	for _, s := range n.Sigs {
		raw, err := base64.StdEncoding.Strict().DecodeString(s.Base64)
		if err != nil || base64.StdEncoding.EncodeToString(raw) != s.Base64 {
			return nil, domain.Errorf(domain.Invalid, op, "the checkpoint's signature is not written as signatures are").WithHint(hintCheckpoint)
		}
		text = append(text, "— "+s.Name+" "+s.Base64+"\n"...)
	}
	if !bytes.Equal(text, signed) {
		return nil, domain.Errorf(domain.Invalid, op, "the checkpoint has more to it than its text and the signature of %s", verifier.Name()).
			WithHint("get it from the log itself, without what witnesses added: GET /v1/log/checkpoint")
	}
	return signed, nil
}
