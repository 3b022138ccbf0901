package domain

// What a personal field reads as when its text can't be had any more.
const (
	// Erased stands for the text of a person who was erased: the key is destroyed, on purpose and for good.
	Erased = "[erased]"
	// Unreadable stands for a text whose key this platform does not have, which nobody meant to: a backup of the keys
	// brings it back.
	Unreadable = "[unreadable]"
)

// Personal is implemented by an event with texts about a person. The log stores these encrypted under a key of that
// person alone, and once the key is destroyed the event reads with [Erased] in their place. Everything else of the event
// stays as it is, so it must make sense without them.
//
// It is a method and no struct tag: who a text is about may take a rule (the principal of a key, if that is a person), and
// the compiler holds a rule to the fields there are.
type Personal interface {
	Event
	// MapPersonal returns the event with f's answer in place of every personal text. It shares no memory that it changes
	// with the receiver, so slices are cloned. An empty text need not be handed to f.
	MapPersonal(f func(PersonalField) string) Event
}

// PersonalField is one text about one person in an event.
type PersonalField struct {
	// Subject is who the text is about (see package subject). It must not be, or be made from, a personal text itself:
	// who reads the event needs it to find the key.
	Subject string
	// Name tells the event's personal texts apart. It is part of what is encrypted, so it stays the same for good, even
	// when a later schema has the text elsewhere. Texts of a list carry their index or, better, an identifier.
	Name string
	Text string
}
