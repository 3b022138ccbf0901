package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"crossbill/domain"
)

// ErrUndecodable is among the causes of the error of a read that comes to an event which this version of the program does
// not know or can't read. The event is not passed over: reading goes no further until a version that knows it is run.
var ErrUndecodable = errors.New("the event can't be decoded")

// Codec turns events into the bytes that are stored and back. It knows a closed set of types: it refuses to write one
// it could not read, and to read one it does not know.
type Codec struct {
	types map[string]eventType
}

type eventType struct {
	name    string
	goType  reflect.Type
	schema  int
	upcasts []domain.Upcast
	decoder *payloadDecoder // nil: encoding/json alone
}

// NewCodec makes a codec of the events whose zero values are given, a group for each package of the domain.
// It returns an Internal error for a type that is no struct, has no name, or has another's name, and for one that can't
// be brought from each of its older schemas to the present one.
func NewCodec(groups ...[]domain.Event) (*Codec, error) {
	const op = "events.NewCodec"
	c := &Codec{types: make(map[string]eventType)}
	for _, e := range slices.Concat(groups...) {
		t := reflect.TypeOf(e)
		if t == nil || t.Kind() != reflect.Struct {
			return nil, domain.Errorf(domain.Internal, op, "%T is not a struct", e).WithHint("register the zero value of the event's struct")
		}
		name := e.EventType()
		if name == "" || len(name) > MaxStreamName {
			return nil, domain.Errorf(domain.Internal, op, "%T has the event type %q", e, name)
		}
		if other, taken := c.types[name]; taken {
			return nil, domain.Errorf(domain.Internal, op, "%s and %T have the same event type %s", other.goType, e, name)
		}
		upcasts, err := domain.UpcastsOf(e)
		if err != nil {
			return nil, err
		}
		c.types[name] = eventType{name, t, domain.SchemaOf(e), upcasts, newPayloadDecoder(t)}
	}
	return c, nil
}

// nameOf returns an event type's name without new memory, if it is one of those it knows.
func (c *Codec) nameOf(name []byte) string {
	if t, known := c.types[string(name)]; known {
		return t.name
	}
	return string(name)
}

// Types returns the names of the events it knows, sorted.
func (c *Codec) Types() []string {
	names := make([]string, 0, len(c.types))
	for name := range c.types {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// appendRoom is taken for a payload whose event appends itself.
const appendRoom = 448

// Encode returns an event's type, schema version and payload.
// It returns an Internal error for a type the codec does not know or that JSON can't hold.
func (c *Codec) Encode(e domain.Event) (eventType string, schema int, payload []byte, err error) {
	const op = "events.Codec.Encode"
	if e == nil {
		return "", 0, nil, domain.Errorf(domain.Internal, op, "there is no event")
	}
	name := e.EventType()
	t, known := c.types[name]
	if !known || t.goType != reflect.TypeOf(e) {
		return "", 0, nil, domain.Errorf(domain.Internal, op, "the codec does not know %T as %q", e, name).
			WithHint("add it to its package's Events")
	}
	if a, ok := e.(interface{ AppendJSON(b []byte) []byte }); ok { // it knows a quicker way to the same bytes
		return name, t.schema, a.AppendJSON(make([]byte, 0, appendRoom)), nil
	}
	payload, err = json.Marshal(e)
	if err != nil {
		return "", 0, nil, domain.Errorf(domain.Internal, op, "%s has no JSON: %w", name, err)
	}
	return name, t.schema, payload, nil
}

// Decode returns the event of a stored payload, brought to the present schema.
// It returns an Internal error for a type or schema it does not know: skipping it would lose a fact.
func (c *Codec) Decode(eventType string, schema int, payload []byte) (domain.Event, error) {
	const op = "events.Codec.Decode"
	t, known := c.types[eventType]
	if !known {
		return nil, domain.Errorf(domain.Internal, op, "the event type %q is unknown", eventType).
			WithHint("run a version of crossbill that knows this event type")
	}
	payload, err := domain.BringUp(eventType, schema, payload, t.upcasts)
	if err != nil {
		return nil, err
	}
	value := reflect.New(t.goType)
	if t.decoder == nil || !t.decoder.decode(payload, value.Elem()) {
		value.Elem().SetZero()
		if err := json.Unmarshal(payload, value.Interface()); err != nil {
			return nil, domain.Errorf(domain.Internal, op, "the payload of %s can't be read: %w", eventType, err)
		}
	}
	event, ok := value.Elem().Interface().(domain.Event)
	if !ok {
		return nil, fmt.Errorf("%s: %s is no event", op, t.goType) // NewCodec got it as one
	}
	return event, nil
}
