package rules

import (
	"strings"

	"sidecar/internal/record"
)

// The names that aliases adds: of the Graylog schema (GIM), and request_id.
const (
	httpResponseCode = iota
	eventDuration
	httpMethod
	httpURI
	httpUserAgent
	traceID
	requestID
	userID
	sessionID
	serviceName
	targets
)

// form is what an alias makes of a value.
type form uint8

const (
	asText   form = iota // a number becomes a text: ids are numbers here and texts there
	asNumber             // a text that is no number has no alias
	asTrace              // a W3C traceparent: its trace id
)

// alias says that a field is also known by the name of target.
type alias struct {
	target uint8
	rank   uint8 // of several fields the one with the lowest rank is taken
	form   form
}

// aliases is the table of aliases by the slug of a field's name. It is for one
// goroutine.
type aliases struct {
	names  [targets]*record.Name
	bySlug map[string]*alias
	memo   record.NameMemo[*alias]
}

func newAliases() *aliases {
	a := &aliases{
		names: [targets]*record.Name{
			httpResponseCode: record.NewName("http_response_code"),
			eventDuration:    record.NewName("event_duration"),
			httpMethod:       record.NewName("http_method"),
			httpURI:          record.NewName("http_uri"),
			httpUserAgent:    record.NewName("http_user_agent"),
			traceID:          record.NewName("trace_id"),
			requestID:        record.NewName("request_id"),
			userID:           record.NewName("user_id"),
			sessionID:        record.NewName("session_id"),
			serviceName:      record.NewName("service_name"),
		},
		bySlug: map[string]*alias{},
	}
	add := func(target uint8, f form, slugs ...string) {
		rank := uint8(0)
		for _, other := range a.bySlug {
			if other.target == target {
				rank = max(rank, other.rank+1)
			}
		}
		for i, slug := range slugs {
			a.bySlug[slug] = &alias{target, rank + uint8(i), f}
		}
	}
	add(httpResponseCode, asNumber, "statuscode", "resstatuscode", "responsestatuscode", "responsestatus", "resstatus",
		"httprequeststatus", "httpstatuscode", "httpresponsestatuscode", "httpstatus", "metaresstatuscode")
	// Milliseconds all.
	add(eventDuration, asNumber, "responsetime", "responsetimems", "durationms", "elapsedms", "metaresponsetime")
	add(httpMethod, asText, "reqmethod", "requestmethod", "httprequestmethod", "httprequestrequestmethod", "metareqmethod")
	add(httpURI, asText, "requrl", "requesturl", "httprequestrequesturl", "originalurl", "metarequrl")
	add(httpUserAgent, asText, "useragent", "requseragent", "requestuseragent", "httprequestuseragent", "reqheadersuseragent", "useragentoriginal")
	add(traceID, asText, "traceid", "oteltraceid", "ddtraceid", "tracetraceid", "contexttraceid", "spantraceid")
	add(traceID, asTrace, "traceparent", "headerstraceparent", "reqheaderstraceparent", "requestheaderstraceparent")
	add(requestID, asText, "requestid", "reqid", "xrequestid", "headersxrequestid", "reqheadersxrequestid", "requestheadersxrequestid", "contextrequestid")
	add(userID, asText, "userid", "requserid", "contextuserid")
	add(sessionID, asText, "sessionid", "reqsessionid", "contextsessionid")
	add(serviceName, asText, "service", "servicename")
	return a
}

// add adds the aliases of the fields of r. A field that is there is never changed.
func (a *aliases) add(r *record.Record) {
	var rank [targets]uint8
	var value [targets]record.Value
	found := false
	for i := range r.Fields {
		al := a.of(r.Fields[i].Name)
		if al == nil {
			continue
		}
		if len(value[al.target].Bytes) > 0 && rank[al.target] <= al.rank {
			continue
		}
		if v, ok := al.form.of(r.Fields[i].Value); ok {
			value[al.target], rank[al.target] = v, al.rank
			found = true
		}
	}
	if !found {
		return
	}
	for t := range value {
		if len(value[t].Bytes) > 0 && find(r, a.names[t]) < 0 {
			r.Fields = append(r.Fields, record.Field{Name: a.names[t], Value: value[t]})
		}
	}
}

// of returns the alias of a name, nil if it has none.
func (a *aliases) of(n *record.Name) *alias {
	al, known := a.memo.At(n)
	if !known {
		*al = a.bySlug[slug(n.String())]
	}
	return *al
}

// slug returns a name in lower case without _ and -.
func slug(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(name))
}

// of returns v in the form f; ok is false if it has none.
func (f form) of(v record.Value) (record.Value, bool) {
	content := v.Bytes
	if v.Kind == record.Quoted {
		content = v.Bytes[1 : len(v.Bytes)-1]
	}
	switch f {
	case asNumber:
		if v.Kind != record.Number && !isDecimal(content) {
			return v, false
		}
		return record.Value{Kind: record.Number, Bytes: content}, true
	case asTrace:
		// version "-" trace-id "-" parent-id "-" flags (W3C Trace Context section 3.2)
		if len(content) < 55 || content[2] != '-' || content[35] != '-' || !isHex(content[3:35]) {
			return v, false
		}
		return record.Value{Kind: record.Text, Bytes: content[3:35]}, true
	}
	if v.Kind == record.Number {
		v.Kind = record.Text
	}
	return v, true
}

// isDecimal reports whether a text is a JSON number without sign and exponent,
// of at most 15 bytes.
func isDecimal(text []byte) bool {
	digits, dot := 0, -1
	for i, c := range text {
		switch {
		case '0' <= c && c <= '9':
			digits++
		case c == '.' && dot < 0 && i > 0 && i < len(text)-1:
			dot = i
		default:
			return false
		}
	}
	leadingZero := len(text) > 1 && text[0] == '0' && dot != 1
	return digits > 0 && len(text) <= 15 && !leadingZero
}

func isHex(text []byte) bool {
	for _, c := range text {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
