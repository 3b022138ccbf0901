// Package cli is the contract as a command line: a command for every operation of api/openapi.yaml, made from the
// contract itself when the program starts, so that an operation is a command on the day it is written down.
//
// It knows no operation by name but for those whose path makes no good words ([called]), what people want besides (watch.go)
// and which columns they read first (columns.go). It reaches the platform only over the API, with the key and address of a profile (profiles.go). Start
// reading at [Add], then at [operation].
package cli

import (
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/spf13/cobra"

	"crossbill/domain"
)

// ungiven are operations that are no commands: their callers are agents, and what they send is not for people to type.
var ungiven = []string{"joinEdgeNode", "renewEdgeCertificate", "getDesiredState", "reportObservations", "sendReadings"}

// Add adds the contract's commands to the root, each under the noun of its path: POST /v1/orders/{order_id}:cancel is
// `orders cancel ORDER_ID`. A noun that the root has already gets the commands beside its own.
// It returns an Internal error if two operations come to the same command.
func Add(root *cobra.Command, contract *openapi3.T) error {
	var s settings
	nouns := make(map[string]*cobra.Command)
	for _, c := range root.Commands() {
		nouns[c.Name()] = c
	}
	for _, o := range operationsOf(contract) {
		noun, ok := nouns[o.noun]
		if !ok {
			noun = &cobra.Command{Use: o.noun, GroupID: groupMarket}
			nouns[o.noun] = noun
			root.AddCommand(noun)
		}
		if o.verb == "" { // the noun by itself is a command, perhaps beside others
			whole := o.command(&s)
			whole.GroupID = groupMarket
			whole.AddCommand(noun.Commands()...)
			root.RemoveCommand(noun)
			root.AddCommand(whole)
			nouns[o.noun] = whole
			continue
		}
		if slices.ContainsFunc(noun.Commands(), func(c *cobra.Command) bool { return c.Name() == o.verb }) {
			return domain.Errorf(domain.Internal, "cli.Add", "%s is the command %s %s, and there is one", o.id, o.noun, o.verb)
		}
		noun.AddCommand(o.command(&s))
	}
	for noun, watch := range watches(&s) {
		if parent, ok := nouns[noun]; ok {
			s.addFlags(watch)
			parent.AddCommand(watch)
		}
	}
	for _, noun := range nouns {
		if noun.GroupID != groupMarket || !noun.HasSubCommands() {
			continue
		}
		verbs := make([]string, 0, len(noun.Commands()))
		for _, c := range noun.Commands() {
			verbs = append(verbs, c.Name())
		}
		if verbs := strings.Join(verbs, ", "); noun.Runnable() { // a command itself
			noun.Short += "; " + verbs
		} else {
			noun.Short = verbs
		}
	}
	root.AddCommand(profilesCommand())
	for _, c := range root.Commands() {
		if c.GroupID == "" {
			c.GroupID = groupPlatform
		}
	}
	return nil
}

// The groups of the program's help: the commands that call the API, and those that run the platform.
const (
	groupMarket   = "market"
	groupPlatform = "platform"
)

// Groups are the headings of the program's help.
func Groups() []*cobra.Group {
	return []*cobra.Group{{ID: groupMarket, Title: "The marketplace, over the API:"}, {ID: groupPlatform, Title: "The platform, on its own machine:"}}
}

// operationsOf returns the operations that are commands, in order of path and method.
func operationsOf(contract *openapi3.T) []operation {
	var all []operation
	for path, item := range contract.Paths.Map() {
		for method, o := range item.Operations() {
			if !slices.Contains(ungiven, o.OperationID) {
				all = append(all, operationOf(path, method, item, o))
			}
		}
	}
	slices.SortFunc(all, func(a, b operation) int {
		return strings.Compare(a.path+" "+a.method, b.path+" "+b.method)
	})
	return all
}
