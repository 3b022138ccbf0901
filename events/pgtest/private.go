package pgtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"crossbill/events/postgres"
)

// startPrivate starts a server for this process. Go runs nothing at the end of a test binary, so a shell waits for the
// end of its input, which comes when this process is gone in whatever way, and then removes the server's files. (On
// Linux the server is by then cut off by the kernel; elsewhere the shell does that too.)
func startPrivate(ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp("", "crossbill-pgtest-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o711); err != nil { // the server's account has to pass through
		return "", err
	}
	if err := removeAtExit(dir); err != nil {
		return "", err
	}
	s, err := postgres.Start(ctx, postgres.Options{DataDir: dir, NoFsync: true})
	if err != nil {
		return "", err
	}
	return s.URLFor("postgres"), nil
}

// kept is the end of the pipe whose closing the shell waits for. Nothing but the kernel closes it.
var kept []*os.File

func removeAtExit(dir string) error {
	const script = `
		cat >/dev/null
		pid=$(head -n 1 "$1/postgres/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" 2>/dev/null
		for i in 1 2 3 4 5 6 7 8 9 10; do
			[ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && sleep 0.2
		done
		rm -rf -- "$1"
	`
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	shell := exec.Command("sh", "-c", script, "sh", dir)
	shell.Stdin = read
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it has to outlive a Ctrl-C
	if err := shell.Start(); err != nil {
		return fmt.Errorf("start the shell that clears up: %w", err)
	}
	kept = append(kept, write)
	return nil
}
