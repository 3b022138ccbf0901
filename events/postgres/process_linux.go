package postgres

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"crossbill/domain"
)

// dieWithParent has the kernel cut the server off when its owner dies, even by SIGKILL (prctl(2), PR_SET_PDEATHSIG).
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }

// leftOver finds the processes of a server by where they work: every PostgreSQL process's working directory is its
// cluster. Unlike the number in postmaster.pid this can't be another program's, and it finds sessions that outlived
// their postmaster.
func leftOver(cluster string) ([]int, error) {
	want, err := os.Stat(cluster)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		exe, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		if err != nil || filepath.Base(strings.TrimSuffix(exe, " (deleted)")) != "postgres" {
			continue // another program, another user's process, or one that has just ended
		}
		if cwd, err := os.Stat(filepath.Join("/proc", e.Name(), "cwd")); err == nil && os.SameFile(want, cwd) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func onMainThread() bool { return unix.Gettid() == unix.Getpid() }

// reach makes the cluster reachable for the account if a directory above it is closed to it (/root is, on most
// machines), by giving this thread, and so the server, a mount namespace of its own in which that directory is replaced
// by one that holds nothing but the way to the cluster. Paths stay the same, and nobody's permissions are changed.
func reach(d dataDir, bin binaries) error {
	if d.account == nil {
		return nil
	}
	closed := ""
	for _, dir := range ancestors(d.cluster) {
		if d.canEnter(dir, bin) != nil {
			closed = dir
			break
		}
	}
	if closed == "" {
		return nil
	}
	err := errors.New("it is the cluster itself")
	if closed != d.cluster {
		err = mountWay(d, closed)
	}
	if err == nil {
		err = d.canEnter(d.cluster, bin)
	}
	if err == nil {
		return nil
	}
	return domain.Errorf(domain.Invalid, "postgres.reach", "the account %s, which has to run PostgreSQL, may not enter %s, and a way around could not be made: %w",
		d.account.name, closed, err).
		WithHint("take a data directory that everybody can pass through to, such as one under /var/lib, or run as an ordinary user")
}

// ancestors lists the directories on the way to path, outermost first, and path.
func ancestors(path string) []string {
	if path == "/" {
		return []string{"/"}
	}
	return append(ancestors(filepath.Dir(path)), path)
}

// canEnter lets the kernel decide, as the account: it knows modes, access lists and security modules.
func (d dataDir) canEnter(dir string, bin binaries) error {
	cmd := exec.Command(filepath.Join(bin.dir, "postgres"), "--version")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: d.account.uid, Gid: d.account.gid}}
	return cmd.Run()
}

// mountWay replaces the closed directory, for this thread only, by an empty file system with the cluster at its place.
func mountWay(d dataDir, closed string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	// Without this the mounts below would show in the namespace this one was copied from.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	// Held open, as its name is about to lead nowhere; and opened here, as only a mount of this namespace can be bound.
	cluster, err := os.Open(d.cluster)
	if err != nil {
		return err
	}
	defer cluster.Close()
	if err := unix.Mount("tmpfs", closed, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755,size=64k"); err != nil {
		return os.NewSyscallError("mount", err)
	}
	if err := os.MkdirAll(d.cluster, 0o755); err != nil {
		return err
	}
	for _, dir := range ancestors(d.cluster) {
		if strings.HasPrefix(dir, closed+"/") {
			if err := os.Chmod(dir, 0o755); err != nil { // whatever the umask made of it
				return err
			}
		}
	}
	from := "/proc/thread-self/fd/" + strconv.Itoa(int(cluster.Fd()))
	return os.NewSyscallError("mount", unix.Mount(from, d.cluster, "", unix.MS_BIND, ""))
}
