package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"crossbill/domain"
	"crossbill/events/wholefile"
)

// keySize is the length of master keys and subject keys: AES-256.
const keySize = 32

// maxMasterKeys is how many a source may hold. Two are needed while one takes the other's place.
const maxMasterKeys = 16

// MasterKeyVariable names the environment variable that may hold the master key instead of a file.
const MasterKeyVariable = "CROSSBILL_MASTER_KEY"

// MasterKey wraps subject keys.
type MasterKey struct {
	id   [8]byte
	wrap cipher.AEAD
	text string // base64
}

// parseMasterKey reads a key from base64, as `openssl rand -base64 32` prints it.
func parseMasterKey(text string) (MasterKey, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != keySize {
		return MasterKey{}, errors.New("a master key is 32 bytes in base64") // and the text stays out of the error
	}
	k := MasterKey{text: text}
	id, err := derive(raw, "crossbill master key id", len(k.id))
	if err != nil {
		return MasterKey{}, err
	}
	k.id = [8]byte(id)
	k.wrap, err = deriveAEAD(raw, "crossbill master key wraps subject keys")
	return k, err
}

func newMasterKey() (MasterKey, error) {
	raw := make([]byte, keySize)
	rand.Read(raw) // never fails
	return parseMasterKey(base64.StdEncoding.EncodeToString(raw))
}

// derive makes of a key another for one use (RFC 5869), so that no two uses can meet.
func derive(key []byte, use string, length int) ([]byte, error) {
	return hkdf.Expand(sha256.New, key, use, length)
}

func deriveAEAD(key []byte, use string) (cipher.AEAD, error) {
	derived, err := derive(key, use, keySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Source is where master keys come from. The first one wraps, the others are only known: they may still wrap what is in
// the database or in a backup.
type Source interface {
	// Load returns the keys, or an error that is fs.ErrNotExist if there are none yet.
	Load() ([]MasterKey, error)
	// Create makes the first key, unless another process just has.
	Create() error
}

// Keys is a [Source] with the keys in a text, separated by spaces or commas: what [MasterKeyVariable] holds.
type Keys string

// Load returns the keys of the text.
func (k Keys) Load() ([]MasterKey, error) {
	return parseMasterKeys(strings.Fields(strings.ReplaceAll(string(k), ",", " ")))
}

// Create always fails: a text can't be written to.
func (k Keys) Create() error {
	return domain.Errorf(domain.Invalid, "vault.Keys", "%s holds no key", MasterKeyVariable).WithHint("make one: openssl rand -base64 32")
}

// KeyFile is a [Source] in a file that only its owner may read, one key a line.
type KeyFile string

// Load reads the file. It returns an Invalid error for a file that others may read or that holds anything but keys.
func (f KeyFile) Load() ([]MasterKey, error) {
	const op = "vault.KeyFile"
	info, err := os.Stat(string(f))
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		return nil, domain.Errorf(domain.Invalid, op, "others may read the master key in %s", f).WithHint("chmod 600 %s", f)
	}
	content, err := os.ReadFile(string(f))
	if err != nil {
		return nil, err
	}
	keys, err := parseMasterKeys(strings.Fields(string(content)))
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, op, "%s does not hold master keys: %w", f, err)
	}
	return keys, nil
}

// Create makes the file with a new key. Of several processes that do it at once, the first one's stays.
func (f KeyFile) Create() error {
	key, err := newMasterKey()
	if err != nil {
		return err
	}
	if err := wholefile.Create(string(f), lines([]MasterKey{key})); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// replace makes the file hold the keys; they are on the disk before anything is wrapped by one of them.
func (f KeyFile) replace(keys []MasterKey) error { return wholefile.Replace(string(f), lines(keys)) }

func lines(keys []MasterKey) (content []byte) {
	for _, k := range keys {
		content = fmt.Appendln(content, k.text)
	}
	return content
}

func parseMasterKeys(texts []string) ([]MasterKey, error) {
	if len(texts) == 0 || len(texts) > maxMasterKeys {
		return nil, fmt.Errorf("it holds %d keys; from 1 to %d are allowed", len(texts), maxMasterKeys)
	}
	keys := make([]MasterKey, len(texts))
	for i, text := range texts {
		var err error
		if keys[i], err = parseMasterKey(text); err != nil {
			return nil, err
		}
	}
	return keys, nil
}
