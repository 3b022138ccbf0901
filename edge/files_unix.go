//go:build unix

package edge

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"crossbill/domain"
)

// lockDir keeps a second agent away from a state directory. The lock ends with the process, however it ends.
func lockDir(dir string) (unlock func(), err error) {
	const op = "edge.Run"
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, domain.Errorf(domain.Internal, op, "open the lock of the state directory: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return nil, domain.Errorf(domain.Conflict, op, "another agent is using %s: %w", dir, err).
			WithHint("give each edge node a state directory of its own")
	}
	return func() {
		// Closing alone would leave the lock to a program that is just being started: until it is, it has all our files.
		syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
		file.Close()
	}, nil
}

// holdFile waits until no other process holds the lock of the given name, and holds it.
func holdFile(path string) (release func() error, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		file.Close()
		return nil, err
	}
	return func() error { return errors.Join(syscall.Flock(int(file.Fd()), syscall.LOCK_UN), file.Close()) }, nil
}
