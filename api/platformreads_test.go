package api

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
)

// platformReads are the functions that read with the platform's own rights, and what for. Everything else reads as the caller:
// by load, by seen, by Queries, by door. What these find is decided by, or is the caller's by a check that is named here.
var platformReads = map[string]string{
	"account":              "who the caller is, is not known yet",
	"AddToRedundancyGroup": "decided by where the provider's port of a connection is that was loaded as the caller",
	"atVersions":           "likewise",
	"besides":              "decided by what stands beside the caller's connection in the caller's group",
	"bgpInPlace":           "decided by the terms of the listing of a connection that was loaded as the caller",
	"BundleInvoiceLine":    "the evidence of an invoice that was loaded as the caller; bundle looks at every event again",
	"CloseOrganisation":    "an operator's",
	"CreateBillingRun":     "an operator's run over everybody",
	"GetBillingRun":        "likewise",
	"CreditInvoice":        "an operator's",
	"VoidInvoice":          "an operator's",
	"CreateEdgeNode":       "an operator's",
	"checkApart":           "decided by what stands beside a connection of the caller's, or of an operator's, in its customer's groups",
	"checkRebuild":         "where a connection is that was loaded as its customer",
	"GetAvailability":      "what a connection's months were settled as, which was loaded as the caller",
	"checkMove":            "decided by whose the ports are and by what stands on them, for an operator",
	"CreatePort":           "an operator's",
	"CreateServiceKey":     "decided by whose the port is",
	"documentSource":       "who makes out the invoices, and the billing account of a document that was loaded as the caller",
	"desiredSessions":      "an agent's own node, as loadEdgeNode; agents are parties of no event",
	"draftOf":              "decided by whose the port is and by where it is",
	"EvaluateBudget":       "usage of connections that were found as the caller",
	"eventsOf":             "at positions that were found as the caller; each event's parties are looked at again",
	"ExplainInvoiceLine":   "the evidence of an invoice that was loaded as the caller",
	"ExportJournal":        "an operator's",
	"feeInForce":           "fees are everybody's",
	"GetEdgeNode":          "an operator's",
	"GetGrossMargin":       "an operator's",
	"GetIssuer":            "who makes out the invoices is everybody's to know",
	"GetLocation":          "locations are everybody's",
	"GetTrialBalance":      "an operator's",
	"GetRecurringRevenue":  "an operator's; a provider's own are read as the provider",
	"GetMarketPolicy":      "an operator's",
	"SkipConnectionStep":   "an operator's",
	"issuer":               "whose market it is, is everybody's to know",
	"keepAfter":            "the id of the caller's own event",
	"ListCustomers":        "the names of organisations whose orders were found as the caller's",
	"ListEdgeNodes":        "an operator's",
	"ListRejectedReadings": "an operator's",
	"listingOnOffer":       "the market is everybody's, and private offers are checked by OnOffer; the events name the provider only",
	"loadBillingDefault":   "of the organisation that is asked for: the caller's",
	"decideIdentity":       "an operator's, an agent's own node, or a machine's that has a token for it",
	"identity":             "who the caller is, is not known yet",
	"loadEdgeNode":         "an agent's own node, by its certificate; agents are parties of no event",
	"loadListing":          "as listingOnOffer",
	"marketPolicy":         "decided by the market's rules",
	"meteredOf":            "decided by the state of a connection on the agent's own node, which is checked",
	"notDelivered":         "the connection of an order that was loaded as the caller",
	"organisation":         "the name of a provider on an invoice that was read as the caller, or of its customer",
	"openRevenue":          "usage of connections that were found as the caller",
	"organisationNames":    "the parties of a document that was loaded as the caller",
	"ownBillingAccount":    "decided by whose the account is; of another's nothing is said",
	"portViews":            "what is reserved on ports that were found as the caller",
	"PublishFeeSchedule":   "an operator's",
	"quotedListing":        "of a quote that was loaded as the caller",
	"redeem":               "decided by the secret of the key; who has it not learns nothing",
	"replay":               "the caller's own answer, by its organisation and key",
	"ReportObservations":   "an agent reports of its own node, which provisioning checks; agents are parties of no event",
	"revokeAll":            "an operator's",
	"scopeOf":              "decided by whose the connection is; of another's nothing is said",
	"SetExchangeRate":      "an operator's",
	"SetMarketPolicy":      "an operator's",
	"SetIssuer":            "an operator's",
	"SetTaxRate":           "an operator's",
	"siteOf":               "decided by the listing's terms, by both ports and by what is reserved on them; of another's port nothing is said",
	"spend":                "usage of connections that were found as the caller",
	"whoseKey":             "whose key did what in a story that was loaded as the caller; the key is told of to its organisation only",
	"terms":                "the listing of a quote that was read as the caller",
	"withinLimits":         "decided by what the caller has committed to, and by whether the provider is active",
}

// TestPlatformReads holds reading past row-level security to the list, so that it is done on purpose and with a reason.
func TestPlatformReads(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, file := range files {
		name := file.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, ".gen.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok && readsAsPlatform(call) {
					found[f.Name.Name] = true
				}
				return true
			})
		}
	}
	for name := range found {
		if platformReads[name] == "" {
			t.Errorf("%s reads with the platform's rights; read as the caller (load, seen, Queries, door), or say in platformReads why not", name)
		}
	}
	for name := range platformReads {
		if !found[name] {
			t.Errorf("%s does not read with the platform's rights any more", name)
		}
	}
}

// readsAsPlatform recognises whatever is given s.Log, as events.Load(ctx, s.Log, …), and s.Log.Read…(…), s.Pool.Query…(…), s.Platform.…(…).
func readsAsPlatform(call *ast.CallExpr) bool {
	for _, argument := range call.Args {
		if strings.HasSuffix(dotted(argument), ".Log") {
			return true
		}
	}
	f := strings.Split(dotted(call.Fun), ".")
	if len(f) < 2 {
		return false
	}
	method, on := f[len(f)-1], f[len(f)-2]
	switch on {
	case "Log":
		return strings.HasPrefix(method, "Read")
	case "Pool":
		return slices.Contains([]string{"Query", "QueryRow", "Begin", "BeginTx", "Acquire"}, method)
	}
	return on == "Platform"
}

// dotted writes a.b.c as it stands; calls and the like are "".
func dotted(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return dotted(e.X) + "." + e.Sel.Name
	case *ast.IndexExpr:
		return dotted(e.X)
	}
	return ""
}
