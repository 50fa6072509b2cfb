package rsyslog

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// facilities and severities are those of RFC 5424 section 6.2.1, by their numbers;
// rsyslog has no names for facilities 12 to 15.
func facilities() []string {
	return []string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
		"", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}
}

func severities() []string {
	return []string{"emerg", "alert", "crit", "error", "warning", "notice", "info", "debug"}
}

// masks are the severities that are selected, a bit for each, by facility.
type masks [24]uint8

func everything() (m masks) {
	for i := range m {
		m[i] = 0xff
	}
	return m
}

// upTo are the severities from 0 to n.
func upTo(n int) uint8 { return uint8(1<<(n+1) - 1) }

// drop is what a rule of logship leaves out: messages of programs, or with a text.
type drop struct {
	place
	identifier, message string // patterns
}

// wanted is what filters let pass, as far as logship can ask the same.
type wanted struct {
	masks       masks
	identifiers []string // of programs; nil: all
	drops       []drop
	left        []string // filters that are not understood: they let everything pass
}

// want folds filters, of which each must hold.
func want(at place, filters []string) wanted {
	w := wanted{masks: everything()}
	for _, f := range filters {
		terms := []string{f}
		if all := alternatives(f); len(all) == 1 {
			terms = all[0]
		}
		for _, term := range terms {
			if !w.selector(term) && !w.priorities(term) && !w.program(term) && !w.property(at, term) {
				w.left = append(w.left, term)
			}
		}
	}
	return w
}

// or makes w what either lets pass. What cannot be said of both passes.
func (w *wanted) or(other wanted) {
	all := everything()
	w.left = append(w.left, other.left...)
	switch {
	case slices.Equal(w.drops, other.drops) && w.masks == all && other.masks == all && w.identifiers != nil && other.identifiers != nil:
		w.identifiers = append(w.identifiers, other.identifiers...)
	case len(w.drops)+len(other.drops)+len(w.identifiers)+len(other.identifiers) == 0:
		for i := range w.masks {
			w.masks[i] |= other.masks[i]
		}
	default:
		*w = wanted{masks: all, left: append(w.left, "of several rules together")}
	}
}

// selector takes facilities and priorities ("sysklogd format, Selectors"), as in
// *.info;mail.none, also as prifilt("…").
func (w *wanted) selector(text string) bool {
	if m := regexp.MustCompile(`^prifilt\(\s*["'](.*)["']\s*\)$`).FindStringSubmatch(text); m != nil {
		text = m[1]
	}
	var selected masks
	for part := range strings.SplitSeq(text, ";") {
		names, priority, ok := strings.Cut(strings.TrimSpace(part), ".")
		if !ok {
			return false
		}
		for name := range strings.SplitSeq(names, ",") {
			found := false
			for i, facility := range facilities() {
				if name != "*" && (facility == "" || name != facility && (name != "security" || facility != "auth")) {
					continue
				}
				if !selected.add(i, priority) {
					return false
				}
				found = true
			}
			if !found {
				return false
			}
		}
	}
	for i := range w.masks {
		w.masks[i] &= selected[i]
	}
	return true
}

// add applies the priority of a selector to facility i: info, =info, !info, none, *.
func (m *masks) add(i int, priority string) bool {
	name := strings.TrimLeft(priority, "!=")
	negated, exact := strings.HasPrefix(priority, "!"), strings.Contains(priority[:len(priority)-len(name)], "=")
	var mask uint8
	switch n := severity(name); {
	case name == "none":
		mask, negated = 0xff, true
	case name == "*":
		mask = 0xff
	case n < 0:
		return false
	case exact:
		mask = 1 << n
	default:
		mask = upTo(n)
	}
	if negated {
		m[i] &^= mask
	} else {
		m[i] |= mask
	}
	return true
}

// severity returns the number of a severity, -1 if there is none of that name.
func severity(name string) int {
	switch name {
	case "panic":
		name = "emerg"
	case "err":
		name = "error"
	case "warn":
		name = "warning"
	}
	return slices.Index(severities(), name)
}

// alternatives splits a condition of RainerScript at or, and each of these at and, which
// binds closer. What has parentheses of its own is one term.
func alternatives(text string) [][]string {
	text = trimParentheses(text)
	if strings.HasPrefix(text, ":") { // a property-based filter
		return [][]string{{text}}
	}
	// The text without what is quoted, so that its words are operators.
	plain := regexp.MustCompile(`"[^"]*"|'[^']*'`).ReplaceAllStringFunc(text, func(s string) string { return strings.Repeat("x", len(s)) })
	if strings.ContainsAny(plain, "()") {
		return [][]string{{text}}
	}
	all, start := [][]string{nil}, 0
	for _, m := range append(regexp.MustCompile(` (?:and|or) `).FindAllStringIndex(plain, -1), []int{len(text), len(text)}) {
		last := len(all) - 1
		all[last] = append(all[last], strings.TrimSpace(text[start:m[0]]))
		if start = m[1]; plain[m[0]:m[1]] == " or " {
			all = append(all, nil)
		}
	}
	return all
}

// priorities takes conditions on facilities and severities: $syslogseverity <= 4,
// $syslogfacility-text == 'local0' or ….
func (w *wanted) priorities(text string) bool {
	var selected masks
	for _, terms := range alternatives(text) {
		each := everything()
		for _, term := range terms {
			if !each.compare(term) {
				return false
			}
		}
		for i := range selected {
			selected[i] |= each[i]
		}
	}
	for i := range w.masks {
		w.masks[i] &= selected[i]
	}
	return true
}

// compare leaves of m what one comparison with a facility or a severity lets pass.
func (m *masks) compare(term string) bool {
	found := regexp.MustCompile(`^\$syslog(facility|severity)(-text)?\s*([=!<>]+)\s*["']?(\w+)["']?$`).FindStringSubmatch(term)
	if found == nil {
		return false
	}
	operator, value := found[3], found[4]
	n, err := strconv.Atoi(value)
	switch isText := found[2] != ""; {
	case isText && operator != "==" && operator != "!=" && operator != "<>": // by the alphabet
		return false
	case isText && found[1] == "severity":
		n = severity(value)
	case isText:
		n = slices.Index(facilities(), value)
	case err != nil:
		return false
	}
	holds, ok := map[string]func(int) bool{
		"==": func(i int) bool { return i == n }, "!=": func(i int) bool { return i != n }, "<>": func(i int) bool { return i != n },
		"<": func(i int) bool { return i < n }, "<=": func(i int) bool { return i <= n },
		">": func(i int) bool { return i > n }, ">=": func(i int) bool { return i >= n },
	}[operator]
	for i := range m {
		for s := range 8 {
			if ok && n >= 0 && !holds(map[string]int{"facility": i, "severity": s}[found[1]]) {
				m[i] &^= 1 << s
			}
		}
	}
	return ok && n >= 0
}

// program takes conditions on one program, or one of several: $programname == 'a' or …,
// $programname == ["a", …].
func (w *wanted) program(text string) bool {
	if m := regexp.MustCompile(`^\$(?:programname|app-name)\s*==\s*\[(.*)\]$`).FindStringSubmatch(trimParentheses(text)); m != nil {
		text = ""
		for _, name := range regexp.MustCompile(`["']([^"']+)["']`).FindAllStringSubmatch(m[1], -1) {
			text += ` or $programname == "` + name[1] + `"`
		}
		text = strings.TrimPrefix(text, " or ")
	}
	equal := regexp.MustCompile(`^\$(?:programname|app-name)\s*==\s*["']([^"']+)["']$`)
	var names []string
	for term := range strings.SplitSeq(strings.TrimSpace(trimParentheses(text)), " or ") {
		m := equal.FindStringSubmatch(strings.TrimSpace(trimParentheses(term)))
		if m == nil {
			return false
		}
		names = append(names, m[1])
	}
	if w.identifiers != nil { // of two such conditions none passes but in odd configurations
		return false
	}
	w.identifiers = names
	return true
}

func trimParentheses(s string) string {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "(") && strings.HasSuffix(s, ")") && strings.Count(s, "(") == 1 {
		return s[1 : len(s)-1]
	}
	return s
}

// property takes conditions on one property in both languages. A condition that must
// not hold becomes a drop.
func (w *wanted) property(at place, text string) bool {
	name, operation, value, ok := comparison(text)
	if !ok {
		return false
	}
	negated := strings.HasPrefix(operation, "!")
	operation = strings.TrimPrefix(operation, "!")
	isProgram := name == "programname" || name == "app-name"
	if isProgram && operation == "isequal" && !negated && w.identifiers == nil {
		w.identifiers = []string{value}
		return true
	}
	d, ok := pattern(name, operation, value)
	if !ok || !negated {
		return false
	}
	d.place = at
	w.drops = append(w.drops, d)
	return true
}

// comparison reads :property, [!]operation, "value" and $property operator 'value'.
func comparison(text string) (name, operation, value string, ok bool) {
	if m := regexp.MustCompile(`^:\s*([\w-]+)\s*,\s*(!?)\s*(\w+)\s*,\s*"(.*)"$`).FindStringSubmatch(text); m != nil {
		return m[1], m[2] + m[3], strings.ReplaceAll(m[4], `\"`, `"`), true
	}
	m := regexp.MustCompile(`^\$([\w-]+)\s*(==|!=|<>|contains|startswith)\s*["']([^"']*)["']$`).FindStringSubmatch(trimParentheses(text))
	if m == nil {
		return "", "", "", false
	}
	operation, ok = map[string]string{"==": "isequal", "!=": "!isequal", "<>": "!isequal"}[m[2]]
	if !ok {
		operation = m[2]
	}
	return m[1], operation, m[3], true
}

// pattern returns what matches a comparison that holds.
func pattern(name, operation, value string) (d drop, ok bool) {
	var p string
	escaped := regexp.MustCompile(`[*?\[\]\\]`).ReplaceAllString(strings.TrimPrefix(value, "~"), `\$0`)
	switch operation {
	case "isequal":
		p = escaped
	case "startswith":
		p = escaped + "*"
	case "contains":
		p = "*" + escaped + "*"
	case "ereregex":
		if _, err := regexp.Compile(value); err != nil {
			return drop{}, false
		}
		p = "~" + value
	default:
		return drop{}, false
	}
	switch name {
	case "programname", "app-name":
		d.identifier = p
	case "msg":
		// rsyslog's msg begins with the blank behind the tag, which logship takes off.
		d.message = strings.TrimPrefix(p, " ")
	default:
		return drop{}, false
	}
	return d, strings.Trim(p, "*~") != ""
}

// stopped returns what a stop of these filters leaves out.
func stopped(at place, filters []string) ([]drop, bool) {
	if len(filters) == 1 {
		var only wanted
		if only.program(filters[0]) {
			var drops []drop
			for _, name := range only.identifiers {
				d, _ := pattern("programname", "isequal", name)
				d.place = at
				drops = append(drops, d)
			}
			return drops, true
		}
	}
	all := [][]string{nil}
	for _, filter := range filters {
		var each [][]string
		for _, terms := range alternatives(filter) {
			for _, before := range all {
				each = append(each, slices.Concat(before, terms))
			}
		}
		if all = each; len(all) > 16 { // nobody would read as many rules
			return nil, false
		}
	}
	var drops []drop
	for _, terms := range all {
		d, ok := together(terms)
		if !ok {
			return nil, false
		}
		d.place = at
		drops = append(drops, d)
	}
	return drops, true
}

// together returns what leaves out messages for which all terms hold: at most one of the
// program and one of the text.
func together(terms []string) (both drop, ok bool) {
	for _, term := range terms {
		name, operation, value, ok := comparison(term)
		if !ok {
			return drop{}, false
		}
		d, ok := pattern(name, operation, value)
		if !ok || d.identifier != "" && both.identifier != "" || d.message != "" && both.message != "" {
			return drop{}, false
		}
		both.identifier, both.message = both.identifier+d.identifier, both.message+d.message
	}
	return both, len(terms) > 0
}

// facility returns how a rule of logship matches facility i.
func facility(i int) string { return "syslog_facility = " + quote(strconv.Itoa(i)) }
