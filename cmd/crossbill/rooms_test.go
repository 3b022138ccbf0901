package main

import (
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rooms is the executable form of the table in docs/architecture.md: which room may import which, and why.
// Imports of the standard library and of other modules are held by their own lists below.
var rooms = map[string]map[string]string{
	"domain":     {},
	"migrations": {},
	"events": {
		"domain":     "stores domain events",
		"migrations": "the test databases are migrated",
	},
	"billing/ledger": {
		"domain": "enters domain events in accounts",
		"events": "as they are recorded",
	},
	"projections": {
		"domain":         "folds domain events into read models",
		"events":         "reads the log",
		"billing/ledger": "keeps what events come to in the ledger, by its rules",
	},
	"billing": {
		"domain":      "rates by the domain's plans and issues its invoices",
		"events":      "an invoice is a function of the log",
		"projections": "finds the connections of a period",
	},
	"provisioning": {
		"domain":      "decides steps from order and connection",
		"events":      "appends what the saga did",
		"projections": "a process manager is a projection",
	},
	"edge": {
		"domain":     "errors and identifiers",
		"api/client": "reaches the platform only over its API",
	},
	"api/client": {
		"domain": "money and decimals on the wire are the domain's",
	},
	"api": {
		"domain": "commands", "events": "appends and reads", "projections": "lists",
		"billing": "invoice runs, explanations, exports", "provisioning": "what an agent reports",
	},
	"cmd": {
		"domain": "", "migrations": "", "events": "", "projections": "", "billing": "", "provisioning": "",
		"edge": "", "api": "", "api/client": "", // the one place that wires everything
	},
}

// testRooms are what a room's tests may import besides.
var testRooms = map[string]map[string]string{
	"migrations": {"events": "migrations are tested on a private PostgreSQL"},
	"api":        {"api/client": "the server is tested by its own client"},
	"billing":    {"billing/ledger": "what moved is held to what the ledger makes of it"},
}

// onlyIn names modules that only these packages, and what is under them, may import.
var onlyIn = map[string][]string{
	"github.com/stripe/stripe-go":   {"billing/stripe"},
	"github.com/parquet-go":         {"billing/focus"},
	"github.com/osrg/gobgp":         {"edge/bgp"},
	"github.com/cilium/ebpf":        {"edge"},
	"github.com/gorilla/mux":        {"api"},
	"github.com/riverqueue/river":   {"provisioning", "billing/runs", "cmd/bench-api"}, // jobs: of sagas, and of billing runs
	"github.com/vishvananda":        {"edge"},
	"github.com/ThreeDotsLabs":      {"events"},
	"github.com/transparency-dev":   {"events"},
	"golang.org/x/mod/sumdb":        {"events"},
	"github.com/pressly/goose":      {"migrations"},
	"github.com/getkin/kin-openapi": {"api", "cmd/crossbill/cli"},
}

// domainMayImport is what the domain may import beside the standard library: nothing.
var domainMayImport = map[string]string{}

type listedPackage struct {
	ImportPath, Dir                    string
	GoFiles                            []string
	Imports, TestImports, XTestImports []string
}

func listPackages(t *testing.T) []listedPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports,TestImports,XTestImports", "crossbill/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listedPackage
	for decoder := json.NewDecoder(strings.NewReader(string(out))); decoder.More(); {
		var p listedPackage
		if err := decoder.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < len(rooms) {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}

// roomOf returns the room an import path of this module is in: the longest key of rooms that it lies under.
func roomOf(path string) string {
	path = strings.TrimPrefix(path, "crossbill/")
	best := ""
	for room := range rooms {
		if (path == room || strings.HasPrefix(path, room+"/")) && len(room) > len(best) {
			best = room
		}
	}
	return best
}

func TestRooms(t *testing.T) {
	t.Parallel()
	for _, p := range listPackages(t) {
		room := roomOf(p.ImportPath)
		if room == "" {
			t.Errorf("%s is in no room of the table", p.ImportPath)
			continue
		}
		check := func(imported string, test bool) {
			if err := allowed(p.ImportPath, room, imported, test); err != nil {
				t.Error(err)
			}
		}
		for _, i := range p.Imports {
			check(i, false)
		}
		for _, i := range append(p.TestImports, p.XTestImports...) {
			check(i, true)
		}
	}
}

func allowed(pkg, room, imported string, test bool) error {
	if strings.HasPrefix(imported, "crossbill/") {
		target := roomOf(imported)
		_, ok := rooms[room][target]
		if test && !ok {
			_, ok = testRooms[room][target]
		}
		if target != room && !ok {
			return fmt.Errorf("%s (room %s) imports %s (room %s), which the table does not allow", pkg, room, imported, target)
		}
		return nil
	}
	for module, only := range onlyIn {
		if strings.HasPrefix(imported, module) && !test {
			at := strings.TrimPrefix(pkg, "crossbill/")
			if !slices.ContainsFunc(only, func(room string) bool { return at == room || strings.HasPrefix(at, room+"/") }) {
				return fmt.Errorf("%s imports %s, which only %s may", pkg, imported, strings.Join(only, " and "))
			}
		}
	}
	if _, ok := domainMayImport[imported]; room == "domain" && !ok && strings.Contains(strings.Split(imported, "/")[0], ".") {
		return fmt.Errorf("%s imports %s; the domain imports the standard library only", pkg, imported)
	}
	return nil
}

// TestRoomsCatchesReverseEdges makes sure that the check above can fail.
func TestRoomsCatchesReverseEdges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ pkg, imported string }{
		{"crossbill/domain/order", "crossbill/events"},
		{"crossbill/billing", "crossbill/provisioning"},
		{"crossbill/edge", "crossbill/events"},
		{"crossbill/edge/bgp", "crossbill/api"},
		{"crossbill/api", "crossbill/edge"},
		{"crossbill/api", "github.com/stripe/stripe-go/v79"},
		{"crossbill/domain/port", "github.com/google/uuid"},
	} {
		if allowed(c.pkg, roomOf(c.pkg), c.imported, false) == nil {
			t.Errorf("%s may import %s, and must not", c.pkg, c.imported)
		}
	}
}

// TestPackagesAreDocumented holds every package to a doc comment that says what it is for.
func TestPackagesAreDocumented(t *testing.T) {
	t.Parallel()
	const shortest = 80 // characters; less is a title, not an explanation
	for _, p := range listPackages(t) {
		if len(p.GoFiles) == 0 {
			continue
		}
		longest := ""
		fset := token.NewFileSet()
		err := filepath.WalkDir(p.Dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() && path != p.Dir {
				return errOr(err, fs.SkipDir)
			}
			if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".gen.go") {
				return nil
			}
			file, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.PackageClauseOnly)
			if err == nil && file.Doc != nil && len(file.Doc.Text()) > len(longest) {
				longest = file.Doc.Text()
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(longest) < shortest {
			t.Errorf("%s has no doc comment that says what it is for", p.ImportPath)
		}
	}
}

func errOr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}
