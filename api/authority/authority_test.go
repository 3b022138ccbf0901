package authority

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"crossbill/domain"
	"crossbill/domain/edgeidentity"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "edge.pem")
	opened := make([]*Authority, 8) // nodes that start at once on a shared directory
	var wait sync.WaitGroup
	for i := range opened {
		wait.Go(func() { opened[i], _ = Open(path) })
	}
	wait.Wait()
	for _, a := range opened {
		if a == nil || a.Pin() != opened[0].Pin() || a.PEM() != opened[0].PEM() {
			t.Fatal("not all have the same authority")
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("a file that others may read: %v", err)
	}
	if err := os.WriteFile(path+"x", []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path + "x"); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("a file that holds something else: %v", err)
	}
	if _, err := Open(filepath.Join(path, "under", "a file")); domain.CodeOf(err) != domain.Internal {
		t.Errorf("a file that can't be: %v", err)
	}
}

// The platform shows a certificate that a node takes whose clock is days off, and another before that would end.
func TestPlatformCertificate(t *testing.T) {
	t.Parallel()
	a, err := Open(filepath.Join(t.TempDir(), "edge.pem"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	shown, err := a.platformCertificate(now)
	if err != nil {
		t.Fatal(err)
	}
	for skew, want := range map[time.Duration]bool{0: true, -6 * 24 * time.Hour: true, 6 * 24 * time.Hour: true, 30 * 24 * time.Hour: false} {
		_, err := shown.Leaf.Verify(x509.VerifyOptions{Roots: a.roots, DNSName: edgeidentity.PlatformName, CurrentTime: now.Add(skew)})
		if (err == nil) != want {
			t.Errorf("to a clock that is %v off it is good: %v", skew, err)
		}
	}
	if again, _ := a.platformCertificate(now.Add(platformLife / 3)); again != shown {
		t.Error("it is made anew too soon")
	}
	later, _ := a.platformCertificate(now.Add(platformLife * 2 / 3))
	if later == shown {
		t.Error("it is not made anew in time")
	}
	if _, _, err := a.Known(shown.Leaf); domain.CodeOf(err) != domain.Unauthorised {
		t.Errorf("the platform's own certificate passes for a node's: %v", err)
	}
}
