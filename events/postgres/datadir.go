package postgres

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"crossbill/domain"
)

// dataDir is a data directory and who may work in it.
type dataDir struct {
	path    string // absolute, without symbolic links: the server must find it under the same name
	cluster string // path/postgres
	account *account
}

// account is whom the server runs as. nil: as this process.
type account struct {
	name     string
	uid, gid uint32
}

func openDataDir(o Options) (dataDir, error) {
	const op = "postgres.Start"
	if o.DataDir == "" {
		return dataDir{}, domain.Errorf(domain.Invalid, op, "no data directory given")
	}
	// Others may pass through but not look: the server's account has to reach its own directory below.
	if err := os.MkdirAll(o.DataDir, 0o711); err != nil {
		return dataDir{}, domain.Errorf(domain.Invalid, op, "the data directory can't be made: %w", err)
	}
	path, err := filepath.Abs(o.DataDir)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return dataDir{}, domain.Errorf(domain.Invalid, op, "the data directory can't be found: %w", err)
	}
	d := dataDir{path: path, cluster: filepath.Join(path, clusterDir)}
	if os.Geteuid() == 0 {
		if d.account, err = findAccount(o.Account); err != nil {
			return dataDir{}, err
		}
	}
	return d, nil
}

// findAccount finds an account that is not root: PostgreSQL refuses to run as root.
func findAccount(wanted string) (*account, error) {
	const op = "postgres.Start"
	names := []string{"postgres", "nobody"}
	if wanted != "" {
		names = []string{wanted}
	}
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil || uid == 0 {
			continue
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			continue
		}
		return &account{name, uint32(uid), uint32(gid)}, nil
	}
	return nil, domain.Errorf(domain.Invalid, op, "PostgreSQL must not run as root, and there is no account %s", strings.Join(names, " or ")).
		WithHint("make one with `useradd --system postgres`, or run as an ordinary user")
}

// lock makes this process the owner of the directory. The kernel takes the lock back when the process ends in any way.
func (d dataDir) lock() (*os.File, error) {
	const op = "postgres.Start"
	f, err := os.OpenFile(filepath.Join(d.path, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, op, "the data directory can't be locked: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner := make([]byte, 20)
		n, _ := f.ReadAt(owner, 0)
		f.Close()
		return nil, domain.Errorf(domain.Unavailable, op, "the data directory %s is in use by process %s: %w", d.path, owner[:n], err).
			WithHint("stop that process, or give this one another data directory")
	}
	f.Truncate(0)
	f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0) // for the message above only
	return f, nil
}

// prepare makes the cluster's directory and gives it to the account. A cluster whose making was cut off is removed: no
// server has run on it.
func (d dataDir) prepare() error {
	const op = "postgres.Start"
	if _, err := os.Stat(d.marker()); err == nil {
		if err := os.RemoveAll(d.cluster); err != nil {
			return domain.Errorf(domain.Invalid, op, "the half-made cluster can't be removed: %w", err)
		}
	}
	if err := os.MkdirAll(d.cluster, 0o700); err != nil {
		return domain.Errorf(domain.Invalid, op, "the cluster's directory can't be made: %w", err)
	}
	if d.account == nil {
		return nil
	}
	info, err := os.Stat(d.cluster)
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid == d.account.uid {
		return nil
	}
	// It is new, or was made by another account: by this program run as an ordinary user, say.
	err = filepath.WalkDir(d.cluster, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(d.account.uid), int(d.account.gid))
	})
	if err != nil {
		return domain.Errorf(domain.Invalid, op, "the cluster can't be given to the account %s: %w", d.account.name, err)
	}
	return nil
}

func (d dataDir) marker() string { return filepath.Join(d.path, initMarker) }

// clusterMajor returns the major version the cluster was made with, or "" if there is no cluster yet.
func (d dataDir) clusterMajor() string {
	b, err := os.ReadFile(filepath.Join(d.cluster, "PG_VERSION"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// openSocketDir returns the directory for the socket: the cluster's own, or where its path is too long for a socket a
// new one among the temporary files, whose name is noted so that the next start can remove it.
func (d dataDir) openSocketDir() (string, error) {
	d.removeSocketDir() // of an owner that was killed
	if len(filepath.Join(d.cluster, socketName)) <= maxSocketPath {
		return d.cluster, nil
	}
	dir, err := os.MkdirTemp("", "crossbill-")
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(d.path, socketsFile), []byte(dir), 0o600); err != nil {
		return "", errors.Join(err, os.Remove(dir))
	}
	if d.account != nil {
		return dir, os.Chown(dir, int(d.account.uid), int(d.account.gid))
	}
	return dir, nil
}

func (d dataDir) removeSocketDir() {
	note := filepath.Join(d.path, socketsFile)
	dir, err := os.ReadFile(note)
	if err != nil {
		return
	}
	for _, name := range []string{socketName, socketName + ".lock"} {
		os.Remove(filepath.Join(string(dir), name))
	}
	os.Remove(string(dir)) // never more than an empty directory, whatever the note says
	os.Remove(note)
}

// openLog opens the server's log for appending.
func (d dataDir) openLog() (*os.File, error) {
	path := filepath.Join(d.path, logFile)
	if info, err := os.Stat(path); err == nil && info.Size() > maxLogBytes {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

func (d dataDir) logTail() string {
	b, err := os.ReadFile(filepath.Join(d.path, logFile))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-logTailOnFailure):]))
}
