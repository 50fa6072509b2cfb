package rules

import (
	"testing"
	"time"

	"sidecar/internal/gelf"
	"sidecar/internal/parse"
	"sidecar/internal/record"
)

// FuzzRules checks that any rules that are accepted leave of any record what
// package record promises and Graylog takes: names that are valid and unique, a
// message that is accepted as it was before.
func FuzzRules(f *testing.F) {
	f.Add([]byte(`_jsonrc:{"message":"GET /","level":"info","statusCode":"200","req":{"id":7},"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}`),
		"nginx.service", "nginx*", "GET*", "req_id", "7", "request_id", "web", uint8(2), 0.5)
	f.Add([]byte(`plain`), "", "", "~^pl", "a", "*", "b", "c", uint8(3), 0.0)
	f.Add([]byte(`{"message":"\ud83d\ude00","a":"\u0041\/","b":1e3}`), "a", "[a-z]", `\*`, "a", "A?", "b", "x", uint8(4), 0.9)
	parser := parse.New(parse.Options{MaxFields: 20})
	f.Fuzz(func(t *testing.T, line []byte, unit, unitPattern, message, field, pattern, name, value string, action uint8, rate float64) {
		rule := Rule{Name: "r", Match: Match{Unit: unitPattern, Message: message}}
		if field != "" {
			rule.Match.Field = map[string]string{field: pattern}
		}
		switch rule.Action = []string{actionDrop, actionSample, actionSet, actionRename, actionLevel}[action%5]; rule.Action {
		case actionSample:
			rule.Rate = rate
		case actionSet:
			rule.Set = map[string]string{name: value, field: value}
		case actionRename:
			rule.Rename = map[string]string{field: name}
		case actionLevel:
			rule.To = value
		}
		rules, err := New(Options{
			Rules: []Rule{rule, {Name: "always", Action: actionSet, Set: map[string]string{"team": "web"}}}, Aliases: action&64 == 0,
			Limits: Limits{Rate: 1, Burst: 1, Summary: time.Second}})
		if err != nil {
			return // the rules are refused
		}
		for at := range int64(2) {
			e := record.Entry{Message: line, Unit: []byte(unit), Identifier: []byte("node"), Priority: int8(action%9) - 1,
				TimeUsec: (at + 1) * 1_700_000_000_000_000, ID: []byte("id"), Seq: 1}
			recs := parser.Parse(nil, &e)
			for i := range recs {
				before := worst(&recs[i])
				if rules.Apply(&e, &recs[i]) {
					check(t, &recs[i], before)
				}
			}
			recs = rules.Due(recs[:0], e.TimeUsec+1_000_000)
			for i := range recs {
				check(t, &recs[i], gelf.FieldConverted)
			}
		}
	})
}

// worst returns the gravest fate that a field of r has in Graylog.
func worst(r *record.Record) gelf.Fate {
	v := gelf.Judge(gelf.Append(nil, r, &gelf.Options{Host: "web-01"}))
	return max(v.Worst(), gelf.FieldConverted)
}

// check checks the names of r, and that Graylog accepts it, and does nothing
// graver to a field of it than before.
func check(t *testing.T, r *record.Record, before gelf.Fate) {
	t.Helper()
	seen := map[string]bool{}
	for _, f := range r.Fields {
		name := f.Name.String()
		if knownName(name) != "" || seen[name] || len(f.Value.Bytes) == 0 {
			t.Fatalf("name %q, value %q", name, f.Value.Bytes)
		}
		seen[name] = true
	}
	frame := gelf.Append(nil, r, &gelf.Options{Host: "web-01"})
	v := gelf.Judge(frame)
	if v.Outcome != gelf.Accepted && before < gelf.FieldFails {
		t.Fatalf("%s\n%s", v.Summary(), frame)
	}
	if v.Worst() > before {
		t.Fatalf("%s\n%s", v.Summary(), frame)
	}
}
