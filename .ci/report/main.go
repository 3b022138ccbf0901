// Command report shows a `go test -json` stream to people: the packages' own result lines as go test prints them, the
// whole output of each failed test, and each skipped test with its reason. It exits with 1 if anything failed, or if a
// skipped test's name or package matches -forbid-skips.
//
//	go test -json ./... | go run ./.ci/report -forbid-skips 'edge|Demo'
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
)

type event struct {
	Action, Package, ImportPath, Test, Output string
}

func main() {
	forbid := flag.String("forbid-skips", "", "regular expression of tests (package/Test) that must not be skipped")
	flag.Parse()
	var forbidden *regexp.Regexp
	if *forbid != "" {
		forbidden = regexp.MustCompile(*forbid)
	}

	var (
		output  = map[string][]string{} // of each running test
		bad     bool
		skipped []string
		passed  int
		failed  int
	)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<20), 1<<26)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Println(lines.Text()) // the go command's own words, such as a module error
			continue
		}
		name := e.Package + "/" + e.Test
		switch {
		case e.Action == "build-output", e.Action == "output" && e.Test == "" && !strings.HasPrefix(e.Output, "PASS"):
			fmt.Print(e.Output)
		case e.Action == "build-fail", e.Action == "fail" && e.Test == "":
			bad = true
		case e.Action == "output" && e.Test != "":
			output[name] = append(output[name], e.Output)
		case e.Action == "fail":
			fmt.Print(strings.Join(output[name], ""))
			delete(output, name)
			failed++
		case e.Action == "skip" && e.Test != "":
			skipped = append(skipped, name+": "+reason(output[name]))
			if forbidden != nil && forbidden.MatchString(name) {
				bad = true
				skipped[len(skipped)-1] += "  <-- must not be skipped here"
			}
			delete(output, name)
		case e.Action == "pass":
			delete(output, name)
			if e.Test != "" {
				passed++
			}
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		bad = true
	}
	for _, s := range skipped {
		fmt.Println("skipped", s)
	}
	switch {
	case passed+failed == 0:
		fmt.Println("FAIL: no test ran")
	case bad && failed == 0:
		fmt.Println("FAIL: a package did not build or end well, or a test was skipped that must not be")
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", passed, failed, len(skipped))
	if bad || passed+failed == 0 {
		os.Exit(1)
	}
}

// reason is what the test said when it skipped: its output without go test's own markers.
func reason(output []string) string {
	var said []string
	for _, line := range output {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			said = append(said, line)
		}
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return strings.Join(said, " ")
}
