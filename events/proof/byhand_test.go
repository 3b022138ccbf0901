package proof_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestByHand runs the commands of docs/proofs.md on the golden bundle, so that the page stays true and the proofs are
// checked once without any of this code.
func TestByHand(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("there is no bash")
	}
	page, err := os.ReadFile("../../docs/proofs.md")
	must(t, err)
	_, script, found := strings.Cut(string(page), "```bash\n")
	script, _, ended := strings.Cut(script, "```")
	if !found || !ended {
		t.Fatal("the page has no commands")
	}
	golden, err := os.ReadFile("testdata/golden.bundle")
	must(t, err)
	flipped := strings.Replace(string(golden), "record AQAAAAAAAAAD", "record AQAAAAAAAAAE", 1)
	for name, c := range map[string]struct {
		bundle, position string
		sound            bool
	}{
		"first": {string(golden), "3", true}, "second": {string(golden), "19", true}, "flipped": {flipped, "3", false},
	} {
		file := filepath.Join(t.TempDir(), name)
		must(t, os.WriteFile(file, []byte(c.bundle), 0o600))
		out, err := exec.Command(bash, "-c", script, "bash", file, c.position).CombinedOutput()
		must(t, err)
		lines := strings.Fields(string(out))
		if len(lines) != 2 || len(lines[0]) != 64 || (lines[0] == lines[1]) != c.sound {
			t.Errorf("%s: %q", name, out)
		}
	}
}
