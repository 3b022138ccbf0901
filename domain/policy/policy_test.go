package policy

import (
	"testing"

	"crossbill/domain"
	"crossbill/domain/internal/scenario"
)

func TestChange(t *testing.T) {
	t.Parallel()
	on, off := Changed{true, "key_1", scenario.Noon}, Changed{false, "key_1", scenario.Noon}
	scenario.Run(t, Decide, Evolve, []scenario.Case[Command]{
		{Name: "switch on", When: Change{true, "key_1", scenario.Noon}, Then: []domain.Event{on}},
		{Name: "off when nothing was said", When: Change{false, "key_1", scenario.Noon}},
		{Name: "on when on", Given: []domain.Event{on}, When: Change{true, "key_1", scenario.Noon}},
		{Name: "switch off", Given: []domain.Event{on}, When: Change{false, "key_1", scenario.Noon}, Then: []domain.Event{off}},
		{Name: "nobody, never", When: Change{}, Code: domain.Invalid, Fields: []string{"/by", "/at"}},
	})
}
