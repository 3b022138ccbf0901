// Package wholefile writes files that appear whole or not at all, are on the disk when they appear, and can be read by
// their owner alone: keys, and what else must not be half there after a crash. It knows nothing of what is in them.
package wholefile

import (
	"errors"
	"os"
	"path/filepath"
)

// Create makes a file. Of several processes that do it at once, the first one's stays, and the others get an error that
// is fs.ErrExist.
func Create(path string, content []byte) error { return write(path, content, os.Link) }

// Replace makes a file hold the content, whether it was there or not.
func Replace(path string, content []byte) error { return write(path, content, os.Rename) }

func write(path string, content []byte, place func(from, to string) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".whole-") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := place(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir) // the name is on the disk once its directory is
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
