package events

import (
	"fmt"
	"testing"

	"crossbill/domain"
)

// TestArchivedPersonalRepetition repeats archived events about somebody who was erased since. Of what they said about her
// nothing can be computed any more, so the archive has to tell.
func TestArchivedPersonalRepetition(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	shrinkPartitions(t, s.pool, 8)
	l := s.node(nil)
	dir := t.TempDir()
	l.archives.dir = dir
	mustAppend(t, l, meeting(1, ada(), bob()))
	mustAppend(t, l, meeting(2, bob()))
	fill(t, l, 0, 20)
	s.erase(l, "org/ada")
	mustArchive(t, s.pool, ArchiveOptions{Dir: dir})

	erased := ada()
	erased.Name, erased.Mail = domain.Erased, domain.Erased
	s.wantWho(l, 1, erased, bob())
	s.wantWho(l, 2, bob())
	if r := mustAppend(t, l, meeting(1, ada(), bob())); r != (Result{1, 1, true}) {
		t.Errorf("repetition with an erased person: %+v", r)
	}
	if r := mustAppend(t, l, meeting(2, bob())); r != (Result{2, 2, true}) {
		t.Errorf("repetition without one: %+v", r)
	}
	for name, a := range map[string]Append{
		"another person": meeting(1, ada(), person{"carl", "Carl", ""}),
		"one fewer":      meeting(1, ada()),
		"another event":  meeting(2, ada(), bob()),
		"a new event":    meeting(3, ada()),
	} {
		if _, err := l.Append(t.Context(), a); domain.CodeOf(err) != domain.Conflict {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A node without the archive can't tell. It says so to that caller and to no other.
	blind := s.node(nil)
	done := make(chan error, 20)
	for i := range cap(done) {
		go func() {
			a := meeting(2, bob())
			if i%2 == 0 {
				a = meeting(1, ada(), bob())
			}
			_, err := blind.Append(t.Context(), a)
			if want := []domain.Code{domain.Unavailable, ""}[i%2]; domain.CodeOf(err) != want {
				done <- fmt.Errorf("append %d: %w", i, err)
				return
			}
			done <- nil
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	requireSoundWith(t, s.pool, dir)
}
