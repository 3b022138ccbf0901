package domain

// Versioned is implemented by an event whose JSON shape is no longer the first one.
// An event that does not implement it has schema version 1.
//
// Logs hold every shape that was ever written, for good. So whoever changes a shape raises EventSchema, adds the last of
// Upcasts ([Upcaster]), and adds a golden file of the new shape; those of the old ones stay. Programs of before stop at
// the new shape and say so. A field that may be missing, and means the same then as ever, needs no new schema.
type Versioned interface {
	EventSchema() int
}

// Upcaster is what every [Versioned] event is too. Upcasts returns how payloads of older schemas become newer ones: the
// first makes schema 2 of schema 1, and so on up to EventSchema.
type Upcaster interface {
	Upcasts() []Upcast
}

// Upcast turns a payload of one schema version into one of the next. It is pure: the same payload gives the same result
// on every machine for good, or rebuilt tables would differ. It works on JSON and on no Go type of the domain, for that
// will change again.
type Upcast func(payload []byte) ([]byte, error)

// SchemaOf returns the schema version under which e is written.
func SchemaOf(e Event) int {
	if v, ok := e.(Versioned); ok {
		return v.EventSchema()
	}
	return 1
}

// UpcastsOf returns the ways from each older schema of e to the next.
// It returns an Internal error if one is missing, or if there is one too many.
func UpcastsOf(e Event) ([]Upcast, error) {
	const op = "domain.UpcastsOf"
	schema, upcasts := SchemaOf(e), []Upcast(nil)
	if u, ok := e.(Upcaster); ok {
		upcasts = u.Upcasts()
	}
	if schema < 1 || len(upcasts) != schema-1 {
		return nil, Errorf(Internal, op, "%s has schema %d and %d upcasts", e.EventType(), schema, len(upcasts)).
			WithHint("there must be one from each older schema to the next")
	}
	for i, up := range upcasts {
		if up == nil {
			return nil, Errorf(Internal, op, "there is no way from schema %d of %s to the next", i+1, e.EventType())
		}
	}
	return upcasts, nil
}

// BringUp brings a payload of an older schema to the newest, through all that are between. Its errors are Internal.
func BringUp(eventType string, schema int, payload []byte, upcasts []Upcast) (_ []byte, err error) {
	const op = "domain.BringUp"
	if newest := len(upcasts) + 1; schema > newest || schema < 1 {
		return nil, Errorf(Internal, op, "%s has schema %d, and the newest known is %d", eventType, schema, newest).
			WithHint("run a version of crossbill that knows this schema")
	}
	for ; schema <= len(upcasts); schema++ {
		if payload, err = upcasts[schema-1](payload); err != nil {
			return nil, Errorf(Internal, op, "%s can't be brought from schema %d to the next: %w", eventType, schema, err)
		}
	}
	return payload, nil
}
