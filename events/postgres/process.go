package postgres

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"crossbill/domain"
)

// process is a running postmaster.
type process struct {
	pid  int
	done chan struct{} // closed when it has ended
	err  error         // how it ended; read after done
}

// startProcess makes the cluster if there is none and starts its server.
//
// Both happen on one thread that is kept for the server's whole life. The kernel ties to a thread both things that are
// needed here: the signal a child gets when its parent dies is sent when the *thread* that forked it ends, and a mount
// namespace belongs to a thread. The thread ends with its goroutine, because that never unlocks it.
func startProcess(ctx context.Context, d dataDir, bin binaries, socketDir string, log *os.File, noFsync bool) (*process, error) {
	p := &process{done: make(chan struct{})}
	started := make(chan error, 1)
	go onThreadOfItsOwn(func() {
		cmd, err := launch(ctx, d, bin, socketDir, log, noFsync)
		if err != nil {
			started <- err
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		p.err = cmd.Wait()
		close(p.done)
	})
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// onThreadOfItsOwn runs f on a thread that ends with it. It is never the main thread, because that can't end before the
// process, and because a mount namespace of the main thread's is what /proc shows as the whole process's.
func onThreadOfItsOwn(f func()) {
	runtime.LockOSThread()
	if !onMainThread() {
		f()
		return
	}
	done := make(chan struct{})
	go func() { // this thread is taken, so the goroutine gets another
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
	runtime.UnlockOSThread()
}

func launch(ctx context.Context, d dataDir, bin binaries, socketDir string, log *os.File, noFsync bool) (*exec.Cmd, error) {
	if err := reach(d, bin); err != nil {
		return nil, err
	}
	if d.clusterMajor() == "" {
		if err := initialise(ctx, d, bin, noFsync); err != nil {
			return nil, err
		}
	}
	cmd := d.command(filepath.Join(bin.dir, "postgres"), append([]string{"-D", d.cluster}, settings(socketDir, noFsync)...)...)
	cmd.Stdout, cmd.Stderr = log, log
	return cmd, cmd.Start()
}

// initialise runs initdb. The marker is there for as long as the cluster is not whole.
func initialise(ctx context.Context, d dataDir, bin binaries, noFsync bool) error {
	const op = "postgres.initialise"
	if err := os.WriteFile(d.marker(), nil, 0o600); err != nil {
		return err
	}
	args := []string{"-D", d.cluster, "--username=" + role, "--auth=trust", // the directory of the socket is the lock
		"--encoding=UTF8", "--locale=C", "--data-checksums"}
	if noFsync {
		args = append(args, "--no-sync")
	}
	cmd := d.command(filepath.Join(bin.dir, "initdb"), args...)
	out, err := os.CreateTemp("", "crossbill-initdb-") // a file, not a pipe: nothing may wait for a grandchild
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return domain.Errorf(domain.Unavailable, op, "initdb did not start: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	err = cmd.Wait()
	stop()
	if err != nil {
		said, _ := os.ReadFile(out.Name())
		return domain.Errorf(domain.Unavailable, op, "initdb failed: %w\n%s", err, bytes.TrimSpace(said))
	}
	return os.Remove(d.marker())
}

// command runs a program of the server as the account, in a session of its own (so that Ctrl-C reaches its owner only),
// and with the locale of nobody in particular.
func (d dataDir) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = d.cluster
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if d.account != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: d.account.uid, Gid: d.account.gid}
	}
	dieWithParent(cmd.SysProcAttr)
	return cmd
}

// stop signals the postmaster and reports whether it ended within the time. SIGINT is a fast shutdown, which writes
// everything; SIGQUIT an immediate one, which leaves recovery to the next start.
func (p *process) stop(signal syscall.Signal, patience time.Duration) bool {
	select {
	case <-p.done: // its number may be another process's by now
		return true
	default:
	}
	syscall.Kill(p.pid, signal)
	select {
	case <-p.done:
		return true
	case <-time.After(max(0, patience)):
		return false
	}
}

// sweep stops whatever is left of a server of this cluster. The caller owns the data directory, so that server's owner
// is dead. First it is asked to cut itself off, which is as safe as a crash; what is still there then is killed, because
// a lone session of the old server beside a new one would corrupt the data.
func sweep(cluster string, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for attempt := 0; ; attempt++ {
		pids, err := leftOver(cluster)
		if err != nil {
			return domain.Errorf(domain.Unavailable, "postgres.sweep", "processes of an earlier server can't be looked for: %w", err)
		}
		if len(pids) == 0 {
			return removeStale(cluster)
		}
		if time.Now().After(deadline) {
			return domain.Errorf(domain.Unavailable, "postgres.sweep", "an earlier server of this data directory does not end: processes %v", pids).
				WithHint("kill -9 %s", joinInts(pids))
		}
		signal := syscall.SIGQUIT
		if attempt > 0 {
			signal = syscall.SIGKILL
		}
		for _, pid := range pids {
			if attempt == 0 || time.Until(deadline) < patience/2 {
				syscall.Kill(pid, signal)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// removeStale removes the files by which a server says that it runs. The process number in them may by now be another
// program's, which would keep PostgreSQL from starting.
func removeStale(cluster string) error {
	for _, name := range []string{"postmaster.pid", socketName, socketName + ".lock"} {
		if err := os.Remove(filepath.Join(cluster, name)); err != nil && !os.IsNotExist(err) {
			return domain.Errorf(domain.Unavailable, "postgres.sweep", "a file of an earlier server can't be removed: %w", err)
		}
	}
	return nil
}

func joinInts(n []int) string { return string(bytes.Trim(fmt.Append(nil, n), "[]")) }
