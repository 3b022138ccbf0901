package api

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"regexp"
	"strings"
	"time"

	"crossbill/domain"
	"crossbill/domain/reading"
)

// usageEventType is the CloudEvents type of a usage event.
const usageEventType = "com.crossbill.usage.v1"

// The content modes of CloudEvents' HTTP protocol binding, version 1.0.2, section 3. In binary mode the attributes are
// headers and the body is the data.
const (
	structuredMedia = "application/cloudevents+json"
	batchMedia      = "application/cloudevents-batch+json"
	jsonMedia       = "application/json"
)

// usageEvent is what is read of a CloudEvent. Extension attributes are let through and not looked at.
type usageEvent struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         *string         `json:"subject"`
	Time            *string         `json:"time"`
	DataContentType *string         `json:"datacontenttype"`
	DataSchema      *string         `json:"dataschema"`
	DataBase64      json.RawMessage `json:"data_base64"`
	Data            json.RawMessage `json:"data"`
}

// usageData is the data of a usage event. All of it is required.
type usageData struct {
	ConnectionID *string    `json:"connection_id"`
	From         *time.Time `json:"from"`
	To           *time.Time `json:"to"`
	BytesIn      *int64     `json:"bytes_in"`
	BytesOut     *int64     `json:"bytes_out"`
}

// attributeName is what an attribute may be called (CloudEvents 1.0.2, "Attribute Naming Convention").
var attributeName = regexp.MustCompile(`^[a-z0-9]{1,40}$`)

// sendUsageEvents records the usage that a provider's own meters report, each event with a verdict of its own.
func (s *Server) sendUsageEvents(r *http.Request, body []byte) ([]byte, int64, error) {
	const op = "api.SendUsageEvents"
	items, err := usageItems(r, body)
	if err != nil {
		return nil, 0, err
	}
	provider, now := callerFrom(r.Context()).OrganisationID, s.now()
	batch := &meterBatch{
		server: s, readings: make([]reading.Recorded, len(items)), errors: make([]error, len(items)),
		id: func(r *reading.Recorded) [16]byte { return reading.UsageEventID(provider, r.Meter, r.MeterEvent) },
		decide: func(r *reading.Recorded, m *metered) ([]domain.Event, error) {
			decided, err := reading.Decide(reading.State{}, reading.RecordUsage{
				ProviderID: provider, Reading: *r, Connection: m.connection, CapacityMbps: m.capacityMbps, Metering: m.metering, At: now,
			})
			return decided, inEvent(err)
		},
	}
	for i, item := range items {
		batch.readings[i], batch.errors[i] = readUsageEvent(item)
	}
	if err := batch.record(r.Context()); err != nil {
		return nil, 0, err
	}
	if err := s.keepRejected(r.Context(), provider, now, batch.refusals(func(i int) []byte { return items[i] })); err != nil {
		return nil, 0, err
	}
	if err := batch.allRejected(op, "usage event", ""); err != nil {
		return nil, 0, err
	}
	answer := append(make([]byte, 0, 128*len(items)), `{"verdicts":[`...)
	for i := range batch.readings {
		if i > 0 {
			answer = append(answer, ',')
		}
		names, err := json.Marshal(struct {
			Source string `json:"source"`
			ID     string `json:"id"`
		}{batch.readings[i].Meter, batch.readings[i].MeterEvent})
		if err != nil {
			return nil, 0, err
		}
		if answer, err = batch.appendOutcome(append(answer, names[:len(names)-1]...), i); err != nil {
			return nil, 0, err
		}
	}
	return append(answer, "]}\n"...), batch.position, nil
}

// inEvent makes the pointers of a reading's error point into its CloudEvent.
func inEvent(err error) error {
	e, ok := err.(*domain.Error)
	if !ok {
		return err
	}
	moved := *e
	moved.Fields = nil
	for _, f := range e.Fields {
		if f.Pointer != "/source" && f.Pointer != "/id" {
			f.Pointer = "/data" + f.Pointer
		}
		moved.Fields = append(moved.Fields, f)
	}
	return &moved
}

// usageItems returns the events of a request, each as JSON in structured mode.
func usageItems(r *http.Request, body []byte) ([]json.RawMessage, error) {
	const op = "api.SendUsageEvents"
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, op, "the body has no content type").WithHint("send %s, or %s for several", structuredMedia, batchMedia)
	}
	if body = bytes.TrimSpace(body); len(body) == 0 {
		return nil, domain.Errorf(domain.Invalid, op, "there is no body")
	}
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	several := body[0] == '['
	binary := media == jsonMedia && r.Header.Get("Ce-Specversion") != ""
	switch {
	case binary:
		item, err := binaryItem(r, body)
		return []json.RawMessage{item}, err
	case media == batchMedia && !several || media == structuredMedia && several:
		return nil, domain.Errorf(domain.Invalid, op, "an array has the content type %s, and one event %s", batchMedia, structuredMedia)
	case media != batchMedia && media != structuredMedia && media != jsonMedia:
		return nil, domain.Errorf(domain.Invalid, op, "%.80s is no content type of usage events", media).WithHint("send %s, or %s for several", structuredMedia, batchMedia)
	case !several:
		return []json.RawMessage{body}, nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(body, &items); err != nil {
		return nil, domain.Errorf(domain.Invalid, op, "the body can't be read: %w", err)
	}
	var p domain.Problems
	p.Check(len(items) >= 1 && len(items) <= maxReadings, "", "must hold 1 to %d events", maxReadings)
	return items, p.Err(op)
}

// binaryItem makes an event of headers and body.
func binaryItem(r *http.Request, body []byte) (json.RawMessage, error) {
	attributes := map[string]any{"data": json.RawMessage(body)}
	for name, header := range r.Header {
		if attribute, ok := strings.CutPrefix(name, "Ce-"); ok && len(header) > 0 {
			attributes[strings.ToLower(attribute)] = header[0]
		}
	}
	item, err := json.Marshal(attributes)
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, "api.SendUsageEvents", "the headers can't be read: %w", err)
	}
	return item, nil
}

// readUsageEvent reads an event as strictly as the contract describes it. Even of one that is refused it returns source and
// id, if they can be read, so that the verdict can name it.
func readUsageEvent(item json.RawMessage) (r reading.Recorded, _ error) {
	const op = "api.SendUsageEvents"
	var e usageEvent
	var p domain.Problems
	var names map[string]json.RawMessage
	if err := json.Unmarshal(item, &names); err != nil {
		p.Add("", "must be an object")
		return r, p.Err(op)
	}
	for name := range names {
		p.Check(attributeName.MatchString(name) || name == "data_base64", "/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(name), "is no name of an attribute")
	}
	if err := json.Unmarshal(item, &e); err != nil {
		p.Add("", "must be a CloudEvent in JSON: %s", strings.TrimPrefix(err.Error(), "json: "))
		return r, p.Err(op)
	}
	r.Meter, r.MeterEvent, r.Source = e.Source, e.ID, reading.SourceProvider
	p.Check(e.SpecVersion == "1.0", "/specversion", "must be 1.0")
	p.Text("/id", e.ID, reading.MaxMeterEvent)
	p.Text("/source", e.Source, reading.MaxMeter)
	p.Check(e.Type == usageEventType, "/type", "must be %s", usageEventType)
	p.Check(e.DataContentType == nil || strings.HasPrefix(*e.DataContentType, jsonMedia), "/datacontenttype", "must be %s", jsonMedia)
	p.Check(e.DataBase64 == nil, "/data_base64", "must not be given; data is JSON")
	for name, raw := range names { // null is no value of an attribute, and encoding/json takes it for none
		p.Check(string(raw) != "null", "/"+name, "must not be null")
	}
	var d usageData
	decoder := json.NewDecoder(bytes.NewReader(e.Data))
	decoder.DisallowUnknownFields()
	if len(e.Data) == 0 || e.Data[0] != '{' {
		p.Add("/data", "must be an object")
	} else if err := decoder.Decode(&d); err != nil {
		p.Add("/data", "%s", strings.TrimPrefix(err.Error(), "json: "))
	} else {
		p.Check(d.ConnectionID != nil && domain.ValidID(domain.PrefixConnection, *d.ConnectionID), "/data/connection_id", "must be an identifier of the form con_…")
		p.Check(d.From != nil, "/data/from", "must be given")
		p.Check(d.To != nil, "/data/to", "must be given")
		p.Check(d.BytesIn != nil && *d.BytesIn >= 0, "/data/bytes_in", "must be a whole number of at least 0")
		p.Check(d.BytesOut != nil && *d.BytesOut >= 0, "/data/bytes_out", "must be a whole number of at least 0")
	}
	if err := p.Err(op); err != nil {
		return r, err
	}
	r.ConnectionID, r.From, r.To, r.BytesIn, r.BytesOut = *d.ConnectionID, d.From.UTC(), d.To.UTC(), *d.BytesIn, *d.BytesOut
	return r, nil
}
