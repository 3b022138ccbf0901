package wholefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	var first atomic.Int32
	var wait sync.WaitGroup
	for n := range 16 {
		wait.Go(func() {
			switch err := Create(path, fmt.Append(nil, n)); {
			case err == nil:
				first.Add(1)
			case !errors.Is(err, fs.ErrExist):
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if first.Load() != 1 {
		t.Errorf("%d made the file", first.Load())
	}
	if err := Replace(path, []byte("another")); err != nil {
		t.Error(err)
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != "another" {
		t.Errorf("it holds %q (%v)", content, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%d files are left (%v)", len(left), err)
	}
}
