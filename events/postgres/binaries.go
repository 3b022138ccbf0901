package postgres

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"crossbill/domain"
)

// minMajor is the oldest PostgreSQL the migrations and the sequencer are written for.
const minMajor = 14

// binaries is an installation of the server.
type binaries struct {
	dir   string
	major int
}

// binaryDirs are where distributions keep server binaries that are not on the path.
var binaryDirs = []string{
	"/usr/lib/postgresql/*/bin",         // Debian, Ubuntu
	"/usr/pgsql-*/bin",                  // PGDG on Red Hat
	"/usr/local/pgsql/bin",              // from source
	"/opt/homebrew/opt/postgresql*/bin", // Homebrew
	"/usr/local/opt/postgresql*/bin",
}

// findBinaries returns the newest installation, or with a major version given (that of an existing cluster, which no
// other can read) one of that version. It returns a NotFound error that says what to install.
func findBinaries(dir, major string) (binaries, error) {
	const op = "postgres.findBinaries"
	var candidates []string
	if dir != "" {
		candidates = []string{dir}
	} else {
		candidates = candidateDirs()
	}
	var found []binaries
	for _, dir := range candidates {
		if b, ok := inspect(dir); ok {
			found = append(found, b)
		}
	}
	slices.SortStableFunc(found, func(a, b binaries) int { return cmp.Compare(b.major, a.major) })
	for _, b := range found {
		if major == strconv.Itoa(b.major) || major == "" && b.major >= minMajor {
			return b, nil
		}
	}
	if major != "" {
		return binaries{}, domain.Errorf(domain.NotFound, op, "the data was written by PostgreSQL %s, whose server binaries are not on this machine", major).
			WithHint("apt-get install -y postgresql-%s", major)
	}
	return binaries{}, domain.Errorf(domain.NotFound, op, "no PostgreSQL server binaries (initdb, postgres; version %d or newer) found in %s",
		minMajor, strings.Join(append(candidates, binaryDirs...), ", ")).
		WithHint("%s, or set DATABASE_URL to a server that is running", InstallHint)
}

func candidateDirs() []string {
	var dirs []string
	if path, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	for _, pattern := range binaryDirs {
		matches, _ := filepath.Glob(pattern) // the patterns are constant and well-formed
		dirs = append(dirs, matches...)
	}
	return dirs
}

// inspect reports whether dir has both programs, and of which version.
func inspect(dir string) (binaries, bool) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return binaries{}, false
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return binaries{}, false
	}
	// "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", "postgres (PostgreSQL) 18beta1"
	fields := strings.Fields(string(out))
	if len(fields) < 3 {
		return binaries{}, false
	}
	digits := strings.IndexFunc(fields[2], func(r rune) bool { return r < '0' || r > '9' })
	if digits < 0 {
		digits = len(fields[2])
	}
	major, err := strconv.Atoi(fields[2][:digits])
	return binaries{dir, major}, err == nil
}
