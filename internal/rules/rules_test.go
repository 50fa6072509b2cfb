package rules

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sidecar/internal/parse"
	"sidecar/internal/record"
)

// must compiles o.
func must(t testing.TB, o Options) *Rules {
	t.Helper()
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// apply parses a line of unit and applies r to it. It returns the fields as
// name=text, the names of the envelope left out.
func apply(t testing.TB, r *Rules, unit, line string) (keep bool, rec record.Record) {
	t.Helper()
	e := record.Entry{Message: []byte(line), Priority: -1, Unit: []byte(unit), Identifier: []byte("node")}
	recs := parse.New(parse.Options{}).Parse(nil, &e)
	if len(recs) != 1 {
		t.Fatalf("%q: %d records", line, len(recs))
	}
	return r.Apply(&e, &recs[0]), recs[0]
}

// shown returns what a rule can change, as text: level, then fields.
func shown(rec *record.Record) string {
	var b strings.Builder
	fmt.Fprint(&b, rec.Level)
	for _, f := range rec.Fields {
		switch f.Name.String() {
		case "level_name", "application_name":
		default:
			fmt.Fprintf(&b, " %s=%s", f.Name, f.Value.Bytes)
		}
	}
	return b.String()
}

func TestMatch(t *testing.T) {
	const line = `_jsonrc:{"level":"info","message":"GET /health?x=1 done","path":"/health/live","res":{"statusCode":204},"s":"a\/b\u00e9\ud83d\ude00\n","~":"~x"}`
	ok := func(m Match) {
		t.Helper()
		r := must(t, Options{Rules: []Rule{{Name: "r", Action: "set", Set: map[string]string{"hit": "yes"}, Match: m}}})
		if _, rec := apply(t, r, "nginx.service", line); find(&rec, record.NewName("hit")) < 0 {
			t.Errorf("%+v does not match", m)
		}
	}
	not := func(m Match) {
		t.Helper()
		r := must(t, Options{Rules: []Rule{{Name: "r", Action: "set", Set: map[string]string{"hit": "yes"}, Match: m}}})
		if _, rec := apply(t, r, "nginx.service", line); find(&rec, record.NewName("hit")) >= 0 {
			t.Errorf("%+v matches", m)
		}
	}
	field := func(name, pattern string) Match { return Match{Field: map[string]string{name: pattern}} }
	ok(Match{})
	ok(Match{Unit: "nginx"})
	ok(Match{Unit: "nginx.service"})
	ok(Match{Unit: "ng*"})
	ok(Match{Unit: "*"})
	ok(Match{Unit: "*.service"})
	ok(Match{Unit: "ngin[xy]"})
	ok(Match{Unit: "ngin?"})
	ok(Match{Unit: "~^ng"})
	not(Match{Unit: "ngin"})
	not(Match{Unit: "nginx.socket"})
	not(Match{Unit: "ngin[^x].service"})
	not(Match{Unit: "~^x"})
	ok(Match{Identifier: "node"})
	not(Match{Identifier: "nod"})
	not(Match{Identifier: "NODE"})
	ok(Match{LevelOver: "notice"})
	not(Match{LevelOver: "info"})
	ok(Match{LevelUnder: "debug"})
	not(Match{LevelUnder: "info"})
	ok(Match{Level: []string{"debug", "info"}})
	not(Match{Level: []string{"debug"}})
	ok(Match{LevelOver: "warn", LevelUnder: "debug", Level: []string{"info"}})
	ok(field("path", "/health*"))
	ok(field("path", "/*/live"))
	ok(field("path", "/*/*"))
	ok(field("path", "~live"))
	ok(field("path", "/health/live"))
	ok(field("path", `/health/liv\e`))
	ok(field("path", "/health/[a-l][^a][t-v]e"))
	not(field("path", "/health"))
	not(field("path", "health*"))
	not(field("path", "/health/live*e"))
	not(field("path", "~^live"))
	not(field("none", "*"))
	ok(field("res_statusCode", "2*"))
	ok(field("res_statusCode", "~^[23]"))
	not(field("res_statusCode", "~^[45]"))
	ok(field("s", "a/bé😀*"))
	ok(field("s", "a/b??\n"))
	not(field("s", `a\\/b*`))
	ok(Match{Message: "GET /health*done"})
	ok(Match{Message: "*x=1*"})
	ok(Match{Message: "*health\\?x*"})
	not(Match{Message: "GET"})
	ok(Match{Message: "~(?i)get"})
	ok(Match{Unit: "nginx", Identifier: "n*", Level: []string{"info"}, Message: "GET*", Field: map[string]string{"path": "/h*", "res_statusCode": "204"}})
	not(Match{Unit: "nginx", Identifier: "n*", Level: []string{"info"}, Message: "GET*", Field: map[string]string{"path": "/h*", "res_statusCode": "205"}})
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		glob, yes, no string // texts separated by commas
	}{
		{"a", "a", ",b,aa"},
		{"*", ",a,ab\n", "-"},
		{"a*a", "aa,aba", "a,ab,ba"},
		{"*a*", "a,ba,ab", ",b"},
		{"a*b*a", "aba,abba,aabaa", "aa,ab,abab"},
		{"**", ",a", "-"},
		{"*ab*ab*", "abab,xab-abx", "ab,aba"},
		{"*a*a", "aa,baba", "a,ba"},
		{"a*ba", "aba,abba", "ba,a"},
		{"a?*", "a\n,a\nb", "a"},
		{"a?", "ab,aé", "a,abc"},
		{"[a-c]*", "a,cx", "d,"},
		{"[^a]", "b,^", "a,ab"},
		{"[*]", "*", "a,"},
		{"[~]x", "~x", "x"},
		{`\*`, "*", "a,\\*"},
		{`[a\]`, "a,\\", "]"},
		{"[[:alpha:]]", "[],:],a]", "a,b"},
		{"(a|b)+?", "(a|b)+x", "a,(a|b)+"},
	} {
		p, err := newPattern(c.glob, "")
		if err != nil {
			t.Fatal(err)
		}
		for text := range strings.SplitSeq(c.yes, ",") {
			if !p.match([]byte(text)) {
				t.Errorf("%s does not match %q", c.glob, text)
			}
		}
		for text := range strings.SplitSeq(c.no, ",") {
			if c.no != "-" && p.match([]byte(text)) {
				t.Errorf("%s matches %q", c.glob, text)
			}
		}
	}
}

func TestActions(t *testing.T) {
	const line = `_jsonrc:{"level":"info","message":"m","a":1,"b":"two"}`
	for _, c := range []struct {
		name  string
		rules []Rule
		keep  bool
		want  string
	}{
		{"nothing", nil, true, "6 a=1 b=\"two\" service_name=\"api.service\""},
		{"set", []Rule{{Action: "set", Set: map[string]string{"team": "web", "a": "x"}}}, true, `6 a=x b="two" service_name="api.service" team=web`},
		{"rename", []Rule{{Action: "rename", Rename: map[string]string{"a": "alpha", "none": "x"}}}, true, `6 alpha=1 b="two" service_name="api.service"`},
		{"a rename never overwrites", []Rule{{Action: "rename", Rename: map[string]string{"a": "b"}}}, true, `6 a=1 b="two" service_name="api.service"`},
		{"renames see each other", []Rule{{Action: "rename", Rename: map[string]string{"a": "c", "b": "a"}}}, true, `6 c=1 a="two" service_name="api.service"`},
		{"level", []Rule{{Action: "level", To: "error"}}, true, `3 a=1 b="two" service_name="api.service"`},
		{"drop", []Rule{{Action: "drop", Match: Match{Field: map[string]string{"b": "t*"}}}}, false, `6 a=1 b="two" service_name="api.service"`},
		{"the first drop ends", []Rule{{Action: "drop", Match: Match{Message: "m"}}, {Action: "level", To: "error"}}, false, `6 a=1 b="two" service_name="api.service"`},
		{"later rules see earlier ones", []Rule{{Action: "level", To: "debug"}, {Action: "rename", Rename: map[string]string{"a": "z"}},
			{Action: "drop", Match: Match{LevelOver: "info", Field: map[string]string{"z": "1"}}}}, false, `7 z=1 b="two" service_name="api.service"`},
		{"not matched", []Rule{{Action: "drop", Match: Match{Message: "n"}}}, true, `6 a=1 b="two" service_name="api.service"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i := range c.rules {
				c.rules[i].Name = fmt.Sprint(i)
			}
			keep, rec := apply(t, must(t, Options{Rules: c.rules}), "api.service", line)
			if got := shown(&rec); keep != c.keep || got != c.want {
				t.Errorf("keep %t, %s\nwant %t, %s", keep, got, c.keep, c.want)
			}
		})
	}
}

func TestAliases(t *testing.T) {
	r := must(t, Options{Aliases: true})
	ok := func(document, want string) {
		t.Helper()
		_, rec := apply(t, r, "", "_jsonrc:"+document)
		var got []string
		for _, f := range rec.Fields {
			kind := ""
			if f.Value.Kind == record.Number {
				kind = "#"
			}
			got = append(got, f.Name.String()+"="+kind+strings.Trim(string(f.Value.Bytes), `"`))
		}
		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s, - want, + got:\n%s", document, diff)
		}
	}
	ok(`{"message":"m","statusCode":200}`, "statusCode=#200 application_name=node http_response_code=#200")
	ok(`{"message":"m","status_code":"404"}`, "status_code=404 application_name=node http_response_code=#404")
	ok(`{"message":"m","res":{"statusCode":500}}`, "res_statusCode=#500 application_name=node http_response_code=#500")
	ok(`{"message":"m","httpRequest":{"status":201,"requestMethod":"GET"}}`,
		"httpRequest_status=#201 httpRequest_requestMethod=GET application_name=node http_response_code=#201 http_method=GET")
	ok(`{"message":"m","statusCode":"OK"}`, "statusCode=OK application_name=node")
	ok(`{"message":"m","res":{"statusCode":500},"statusCode":200}`, "res_statusCode=#500 statusCode=#200 application_name=node http_response_code=#200")
	ok(`{"message":"m","statusCode":"-","res":{"statusCode":500}}`, "statusCode=- res_statusCode=#500 application_name=node http_response_code=#500")
	ok(`{"message":"m","statusCode":200,"http_response_code":1}`, "statusCode=#200 http_response_code=#1 application_name=node")
	ok(`{"message":"m","responseTime":12.5}`, "responseTime=#12.5 application_name=node event_duration=#12.5")
	ok(`{"message":"m","durationMs":"0.5"}`, "durationMs=0.5 application_name=node event_duration=#0.5")
	ok(`{"message":"m","durationMs":"5ms"}`, "durationMs=5ms application_name=node")
	ok(`{"message":"m","requestId":8812731}`, "requestId=#8812731 application_name=node request_id=8812731")
	ok(`{"message":"m","req":{"id":"r1"}}`, "req_id=r1 application_name=node request_id=r1")
	ok(`{"message":"m","x-request-id":"r1"}`, "x-request-id=r1 application_name=node request_id=r1")
	ok(`{"message":"m","request_id":"r1","reqId":"r2"}`, "request_id=r1 reqId=r2 application_name=node")
	ok(`{"message":"m","REQUEST_ID":"r1"}`, "REQUEST_ID=r1 application_name=node request_id=r1")
	ok(`{"message":"m","traceId":"t","requestId":"r"}`, "traceId=t requestId=r application_name=node trace_id=t request_id=r")
	ok(`{"message":"m","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}`,
		"traceparent=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 application_name=node trace_id=0af7651916cd43dd8448eb211c80319c")
	ok(`{"message":"m","traceparent":"00-0af7651916cd43dd8448eb211c80319c"}`, "traceparent=00-0af7651916cd43dd8448eb211c80319c application_name=node")
	ok(`{"message":"m","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","traceId":"t"}`,
		"traceparent=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 traceId=t application_name=node trace_id=t")
	ok(`{"message":"m","service":"checkout"}`, "service=checkout application_name=node service_name=checkout")
	ok(`{"message":"m","other":"x"}`, "other=x application_name=node")
	// The journal's unit is there already.
	if _, rec := apply(t, r, "api.service", `_jsonrc:{"message":"m","service":"checkout"}`); shown(&rec) != `6 service="checkout" service_name="api.service"` {
		t.Error(shown(&rec))
	}
}

// TestAliasTable: every alias is found in any notation, and what is added has a name that
// Graylog keeps.
func TestAliasTable(t *testing.T) {
	a := newAliases()
	for slug, al := range a.bySlug {
		name := record.NewName(strings.ToUpper(slug[:1]) + "_" + slug[1:4] + "-" + slug[4:])
		for range 2 { // it is looked up, then remembered
			if a.of(name) != al || a.of(record.NewName(slug+"x")) != nil {
				t.Errorf("%s is not found as %s", slug, name)
			}
		}
	}
	ranks := map[uint8]map[uint8]bool{}
	for _, al := range a.bySlug {
		if ranks[al.target] == nil {
			ranks[al.target] = map[uint8]bool{}
		}
		ranks[al.target][al.rank] = true
	}
	names, slugs := 0, 0
	for target, r := range ranks {
		names++
		slugs += len(r)
		for rank := range r {
			if int(rank) >= len(r) {
				t.Errorf("%s: rank %d of %d", a.names[target], rank, len(r))
			}
		}
		if newName(a.names[target].String()) != "" {
			t.Errorf("%s is no name", a.names[target])
		}
	}
	if names != targets || slugs != len(a.bySlug) {
		t.Errorf("%d names, %d ranks for %d aliases", names, slugs, len(a.bySlug))
	}
}

// TestDocumentedAliases: docs/rules.md has every alias, in the order of preference.
func TestDocumentedAliases(t *testing.T) {
	text, err := os.ReadFile("../../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	a := newAliases()
	code := regexp.MustCompile("`([^`]+)`")
	found := 0
	for target, name := range a.names {
		_, row, ok := strings.Cut(string(text), "\n| `"+name.String()+"` | ")
		if !ok {
			t.Errorf("%s is not documented", name)
			continue
		}
		row, _, _ = strings.Cut(row, "\n")
		for i, m := range code.FindAllStringSubmatch(row, -1) {
			al := a.of(record.NewName(strings.ReplaceAll(m[1], ".", "_")))
			if al == nil || int(al.target) != target || int(al.rank) != i {
				t.Errorf("%s: %s is documented as number %d, the table has %+v", name, m[1], i, al)
			}
			found++
		}
	}
	if found != len(a.bySlug) {
		t.Errorf("%d of %d aliases are documented", found, len(a.bySlug))
	}
}

func TestMistakes(t *testing.T) {
	match := func(m Match) Options {
		return Options{Rules: []Rule{{Name: "r", Action: "level", To: "info", Match: m}}}
	}
	one := func(r Rule) Options {
		r.Name = "r"
		return Options{Rules: []Rule{r}}
	}
	long := strings.Repeat("x", 1025)
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Rules: []Rule{{Action: "level", To: "info"}}}, "set rule[0].name: rule 1: it has no name: give it one, for counters and messages"},
		{Options{Rules: []Rule{{Name: "r", Action: "level", To: "info"}, {Name: "r", Action: "level", To: "info"}}}, `set rule[1].name: rule "r": another rule has this name: give it one of its own`},
		{one(Rule{}), `set rule[0].action: rule "r": want drop, sample, set, rename or level, found ""`},
		{one(Rule{Action: "drp"}), `set rule[0].action: rule "r": want drop, sample, set, rename or level, found "drp"`},
		{one(Rule{Action: "drop"}), `set rule[0].match: rule "r": it would drop every message: say which, such as match = { unit = "nginx", level_over = "info" }`},
		{one(Rule{Action: "drop", Match: Match{Message: "x"}, Rate: 0.5}), `set rule[0].rate: rule "r": the action drop does not use rate: leave it out`},
		{one(Rule{Action: "level", To: "info", Set: map[string]string{"a": "b"}}), `set rule[0].set: rule "r": the action level does not use set: leave it out`},
		{one(Rule{Action: "set", Set: map[string]string{"a": "b"}, Rename: map[string]string{"a": "b"}}), `set rule[0].rename: rule "r": the action set does not use rename: leave it out`},
		{one(Rule{Action: "set", Set: map[string]string{"a": "b"}, To: "info"}), `set rule[0].to: rule "r": the action set does not use to: leave it out`},
		{one(Rule{Action: "sample"}), `set rule[0].rate: rule "r": want the share of messages to keep, between 0 and 1, found 0; to keep none use action = "drop"`},
		{one(Rule{Action: "sample", Rate: 1}), `set rule[0].rate: rule "r": want the share of messages to keep, between 0 and 1, found 1; to keep none use action = "drop"`},
		{one(Rule{Action: "set"}), `set rule[0].set: rule "r": no field is given: say which, such as set = { team = "web" }`},
		{one(Rule{Action: "set", Set: map[string]string{"a": " "}}), `set rule[0].set: rule "r": the value of a is blank, which Graylog drops: give it a text`},
		{one(Rule{Action: "set", Set: map[string]string{"a": "\u0011\u00a0"}}), `set rule[0].set: rule "r": the value of a is blank, which Graylog drops: give it a text`},
		{one(Rule{Action: "set", Set: map[string]string{"a": strings.Repeat("x", 32001)}}), `set rule[0].set: rule "r": the value of a has 32001 bytes: shorten it to 32000`},
		{one(Rule{Action: "set", Set: map[string]string{"_a": "b"}}), `set rule[0].set: rule "r": "_a" begins with an underscore: write "a", the name in Graylog's search`},
		{one(Rule{Action: "set", Set: map[string]string{"a.b": "b"}}), `set rule[0].set: rule "r": "a.b" is not the name of a field: letters, digits, _ and - are possible; a.b is a_b`},
		{one(Rule{Action: "set", Set: map[string]string{"": "b"}}), `set rule[0].set: rule "r": a field has no name: give it one`},
		{one(Rule{Action: "set", Set: map[string]string{"id": "b"}}), `set rule[0].set: rule "r": "id" is a name that Graylog or logship uses itself: choose another, such as app_id`},
		{one(Rule{Action: "set", Set: map[string]string{"gl2_x": "b"}}), `set rule[0].set: rule "r": "gl2_x" is a name that Graylog or logship uses itself: choose another, such as app_gl2_x`},
		{one(Rule{Action: "rename"}), `set rule[0].rename: rule "r": no field is given: say which, such as rename = { reqId = "request_id" }`},
		{one(Rule{Action: "rename", Rename: map[string]string{"a": "seq"}}), `set rule[0].rename: rule "r": "seq" is a name that Graylog or logship uses itself: choose another, such as app_seq`},
		{one(Rule{Action: "rename", Rename: map[string]string{"a": "a"}}), `set rule[0].rename: rule "r": a gets the name that it has: leave it out`},
		{one(Rule{Action: "rename", Rename: map[string]string{"a": "c", "b": "c"}}), `set rule[0].rename: rule "r": two fields get the name c: use a rule for each, in the order of preference`},
		{one(Rule{Action: "rename", Rename: map[string]string{"a.b": "c"}}), `set rule[0].rename: rule "r": "a.b" is not the name of a field: letters, digits, _ and - are possible; a.b is a_b`},
		{one(Rule{Action: "level", To: "loud"}), `set rule[0].to: rule "r": want emerg, alert, crit, error, warning, notice, info or debug, found "loud"`},
		{match(Match{LevelOver: "loud"}), `set rule[0].match.level_over: rule "r": want emerg, alert, crit, error, warning, notice, info or debug, found "loud"`},
		{match(Match{LevelUnder: "loud"}), `set rule[0].match.level_under: rule "r": want emerg, alert, crit, error, warning, notice, info or debug, found "loud"`},
		{match(Match{Level: []string{"info", "6"}}), `set rule[0].match.level: rule "r": want emerg, alert, crit, error, warning, notice, info or debug, found "6"`},
		{match(Match{LevelOver: "debug"}), `set rule[0].match: rule "r": no level meets its conditions: level_over is for less severe ones (debug is the least), level_under for more severe ones (emerg is the most)`},
		{match(Match{LevelUnder: "emerg"}), `set rule[0].match: rule "r": no level meets its conditions: level_over is for less severe ones (debug is the least), level_under for more severe ones (emerg is the most)`},
		{match(Match{Unit: "a["}), `set rule[0].match.unit: rule "r": "a[" is not a pattern: "[" begins a set such as [a-z]; for the character itself write \[`},
		{match(Match{Identifier: `a\`}), `set rule[0].match.identifier: rule "r": "a\\" is not a pattern: nothing follows the last \; for the character itself write \\`},
		{match(Match{Message: "[z-a]"}), `set rule[0].match.message: rule "r": "[z-a]" is not a pattern: * ? and [a-z] are wildcards, \ takes the next character as it is`},
		{match(Match{Message: "~("}), `set rule[0].match.message: rule "r": "~(" is not a regular expression (RE2): missing closing ): ` + "`(`"},
		{match(Match{Message: "~"}), `set rule[0].match.message: rule "r": no regular expression follows the "~": write one, or "[~]*" for texts that begin with it`},
		{match(Match{Message: long}), `set rule[0].match.message: rule "r": the pattern "` + long[:64] + `…" has 1025 bytes: shorten it to 1024`},
		{match(Match{Field: map[string]string{"a": ""}}), `set rule[0].match.field: rule "r": the pattern for a is empty, and fields never are: use "*" for any value`},
		{match(Match{Field: map[string]string{"a.b": "x"}}), `set rule[0].match.field: rule "r": "a.b" is not the name of a field: letters, digits, _ and - are possible; a.b is a_b`},
		{Options{Limits: Limits{Rate: -1}}, `set limits.rate: want messages per second, 1 to 1000000, or 0 for no limit, found -1`},
		{Options{Limits: Limits{Rate: 1, Burst: -1, Summary: 1}}, `set limits.burst: want the messages that may come at once, 1 to 1000000000, or 0 for ten seconds of rate, found -1`},
		{Options{Limits: Limits{Burst: 1}}, `set limits.burst: without limits.rate there is no limit: set rate, or leave burst out`},
		{Options{Limits: Limits{Rate: 1}}, `set limits.summary: want the time that a summary covers, more than 0s: what is suppressed must be told`},
	} {
		r, err := New(c.o)
		if err == nil {
			t.Errorf("no error, want %s", c.want)
			continue
		}
		if diff := cmp.Diff(c.want, err.Error()); diff != "" || r != nil || !errors.As(err, new(*Error)) {
			t.Errorf("- want, + got:\n%s", diff)
		}
	}
	// All mistakes are told, and a percent sign is just that.
	_, err := New(Options{Rules: []Rule{{Name: "100 %d", Action: "x"}, {Name: "b", Action: "level"}}, Limits: Limits{Rate: 1}})
	if got := strings.Split(fmt.Sprint(err), "\n"); len(got) != 3 || !strings.Contains(got[0], `rule "100 %d": want`) {
		t.Errorf("%q", got)
	}
}

// TestReservedNames: what Graylog skips (rule R9) or the encoder writes.
func TestReservedNames(t *testing.T) {
	for _, name := range []string{"id", "host", "source", "message", "short_message", "full_message", "timestamp", "level", "streams",
		"version", "facility", "file", "line", "event_id", "seq", "truncated", "gl2_", "gl2_source_input"} {
		if newName(name) == "" || knownName(name) != "" {
			t.Errorf("%s can be set, or not be matched", name)
		}
	}
	for _, name := range []string{"ID", "hostname", "levels", "service_name", "gl2", "a", "9", "-"} {
		if wrong := newName(name); wrong != "" {
			t.Error(wrong)
		}
	}
}

// TestLimitsOfOptions tries the values beside the limits.
func TestLimitsOfOptions(t *testing.T) {
	for _, o := range []Limits{{}, {Rate: 1, Summary: 1}, {Rate: maxRate, Burst: maxBurst, Summary: time.Hour}, {Rate: 1, Burst: maxBurst, Summary: 1}} {
		if _, err := New(Options{Limits: o}); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, o := range []Limits{{Rate: maxRate + 1, Summary: 1}, {Rate: 1, Burst: maxBurst + 1, Summary: 1}, {Rate: 1, Summary: -1}} {
		if _, err := New(Options{Limits: o}); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	name := strings.Repeat("x", maxNameBytes)
	if knownName(name) != "" || knownName(name+"x") == "" {
		t.Error("the longest name")
	}
	if _, err := newPattern(strings.Repeat("x", maxPatternBytes), ""); err != nil {
		t.Error(err)
	}
}
