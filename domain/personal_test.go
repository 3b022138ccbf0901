package domain_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"crossbill/domain"
	"crossbill/domain/apikey"
	"crossbill/domain/connection"
	"crossbill/domain/internal/scenario"
	"crossbill/domain/organisation"
	"crossbill/domain/subject"
	"crossbill/domain/webhook"
)

// persons are events about persons, one for each type that can have personal texts.
func persons() []domain.Personal {
	return append(financePersons(), []domain.Personal{
		apikey.Issued{KeyID: scenario.ID(domain.PrefixAPIKey, 1), OrganisationID: customer, Principal: apikey.Principal{Kind: apikey.KindPerson, ID: "first", Name: "Ada Lovelace"},
			Scopes: []string{"trade"}, SecretHash: hash, At: at},
		organisation.MemberAdded{OrganisationID: customer, MemberID: "mem_1", Name: "Ada Lovelace", Email: "ada@example.org", Role: organisation.MemberOwner, At: at},
		connection.SecretSet{ConnectionID: scenario.ID(domain.PrefixConnection, 1), CustomerID: customer, Side: connection.SideA, Secret: "a secret", At: at},
		webhook.Created{WebhookID: scenario.ID(domain.PrefixWebhook, 1), OrganisationID: customer, Secret: "whsec_1", At: at},
		webhook.SecretRotated{WebhookID: scenario.ID(domain.PrefixWebhook, 1), OrganisationID: customer, Secret: "whsec_2", At: at},
	}...)
}

// Every type with personal texts keeps the promises of the interface, on which it rests that no such text reaches the log
// in clear and that it can be found again.
func TestPersonal(t *testing.T) {
	t.Parallel()
	missing := make(map[string]bool)
	for name, e := range everyEvent(t) {
		if _, ok := e.(domain.Personal); ok {
			missing[name] = true
		}
	}
	for _, e := range persons() {
		delete(missing, e.EventType())
		before := indented(t, e)
		var seen []domain.PersonalField
		mapped := e.MapPersonal(func(f domain.PersonalField) string { seen = append(seen, f); return "sealed " + f.Name })
		if string(indented(t, e)) != string(before) {
			t.Errorf("%T: mapping changed the event it was asked of", e)
		}
		if len(seen) == 0 || reflect.TypeOf(mapped) != reflect.TypeOf(e) {
			t.Fatalf("%T has %d personal texts and is mapped to %T", e, len(seen), mapped)
		}
		names := make(map[string]bool)
		for _, f := range seen {
			if names[f.Name] || f.Name == "" || f.Subject == "" || f.Text == "" {
				t.Errorf("%T: the field %+v is not complete or has another's name", e, f)
			}
			names[f.Name] = true
			if text, _ := json.Marshal(f.Text); strings.Contains(string(indented(t, mapped)), string(text)) {
				t.Errorf("%T: %s is still in it when it is mapped", e, f.Name)
			}
		}
		// What is read back has the same fields of the same subjects in it, so the key is found.
		back := mapped.(domain.Personal).MapPersonal(func(f domain.PersonalField) string {
			first := seen[0]
			seen = seen[1:]
			if f.Subject != first.Subject || f.Name != first.Name || f.Text != "sealed "+f.Name {
				t.Errorf("%T: %+v is found again as %+v", e, first, f)
			}
			return first.Text
		})
		if !reflect.DeepEqual(back, domain.Event(e)) {
			t.Errorf("%T comes back as %+v", e, back)
		}
	}
	for name := range missing {
		t.Errorf("%s has no sample here", name)
	}
}

// Only a person's name is personal: an edge node's, a program's and the operator's stay readable.
func TestOnlyPersonsArePersonal(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{
		apikey.KindPerson: subject.Of(customer, "x"), apikey.KindProgram: "", apikey.KindEdgeNode: "", apikey.KindOperator: "",
	} {
		got := ""
		apikey.Issued{OrganisationID: customer, Principal: apikey.Principal{Kind: kind, ID: "x", Name: "n"}}.
			MapPersonal(func(f domain.PersonalField) string { got = f.Subject; return f.Text })
		if got != want {
			t.Errorf("the subject of a %s is %q", kind, got)
		}
	}
}
