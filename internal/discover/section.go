package discover

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SectionName is the section that makes a unit a target.
const SectionName = "X-Healthd"

// maxWorkers bounds the workers of one app, so that a slip of the pen does not
// become a million targets.
const maxWorkers = 1000

// Section is what an [X-Healthd] section says. The zero value is a section without
// keys: the state of the unit alone is watched.
type Section struct {
	// Health are the checks, one URL each, with specifiers as written; in the order
	// of the file. See Expand.
	Health []string
	// Metrics is where the service has its metrics: a URL, or a path on the server
	// of the first check; with specifiers as written.
	Metrics string
	// Sum are the families of metrics to sum over workers, as written.
	Sum []string
	// Critical: without this app the machine is not well. Info: it never changes
	// how the machine is. Neither: the machine is degraded.
	Critical, Info bool
	// Workers are the names of the workers that there should be, nil if the section
	// does not say. Of a template they are instances; of a plain unit they are what
	// %i stands for.
	Workers []string
	// Quorum is how many workers must be well, 0 if the section does not say.
	Quorum int
	// Public is the name under which the public may see the app; empty for not.
	Public string
	// Group is the group of the configuration that the app is in; empty for none.
	Group string
	// DependsOn are nodes without which this app cannot be well.
	DependsOn []string
	// Interval and Timeout of the checks, 0 for the defaults.
	Interval, Timeout time.Duration
	// Grace is how long the app may take to start, 0 for the default.
	Grace time.Duration
	// MemoryWarnBytes and CPUWarnPercent (of one processor) are what is more than
	// usual, 0 for no such limit.
	MemoryWarnBytes uint64
	CPUWarnPercent  float64
}

// ParseSection reads the [X-Healthd] sections of the texts of unit files, the unit's
// own first, then its drop-ins in systemd's order. Later values replace earlier ones,
// but for Health, DependsOn and Sum, which add up and which an empty value clears, as lists
// do in systemd.syntax(7). found is whether there is such a section. Mistakes cost the
// line that has them and are returned as text for people.
func ParseSection(texts ...string) (s Section, found bool, problems []string) {
	for _, text := range texts {
		in := false
		for _, l := range joined(text) {
			if strings.HasPrefix(l.text, "[") {
				in = l.text == "["+SectionName+"]"
				found = found || in
				continue
			}
			if !in {
				continue
			}
			key, value, ok := strings.Cut(l.text, "=")
			key, value = strings.TrimSpace(key), strings.TrimSpace(value)
			err := errors.New("want key=value")
			if ok {
				err = s.set(key, value)
			}
			if err != nil {
				problems = append(problems, fmt.Sprintf("line %d: %s: %v", l.number, quoted(key), err))
			}
		}
	}
	if s.Critical && s.Info {
		s.Info = false
		problems = append(problems, "Critical=yes and Info=yes exclude each other: it counts as critical")
	}
	if s.Workers != nil && s.Quorum > len(s.Workers) {
		problems = append(problems, fmt.Sprintf("Quorum=%d of %d workers can never be: all of them are needed", s.Quorum, len(s.Workers)))
		s.Quorum = 0
	}
	return s, found, problems
}

// set takes one assignment. An empty value resets the key (systemd.syntax(7)).
func (s *Section) set(key, value string) (err error) {
	switch key {
	case "Health":
		s.Health = addTo(s.Health, value)
	case "DependsOn":
		s.DependsOn = addTo(s.DependsOn, strings.Fields(value)...)
	case "Metrics":
		s.Metrics = value
	case "Sum":
		s.Sum = addTo(s.Sum, strings.Fields(value)...)
	case "Public":
		s.Public = value
	case "Group":
		s.Group = value
	case "Critical":
		s.Critical, err = parseBool(value)
	case "Info":
		s.Info, err = parseBool(value)
	case "Workers":
		s.Workers, err = parseWorkers(value)
	case "Quorum":
		s.Quorum, err = parseCount(value)
	case "Interval":
		s.Interval, err = parseSpan(value)
	case "Timeout":
		s.Timeout, err = parseSpan(value)
	case "Grace":
		s.Grace, err = parseSpan(value)
	case "MemoryWarn":
		s.MemoryWarnBytes, err = parseBytes(value)
	case "CPUWarn":
		s.CPUWarnPercent, err = parsePercent(value)
	default:
		err = errors.New("no such key; there are " + strings.Join(sectionKeys(), ", "))
	}
	return err
}

// sectionKeys returns the keys of a section.
func sectionKeys() []string {
	return []string{"Health", "Metrics", "Sum", "Critical", "Info", "Workers", "Quorum", "Public", "Group", "DependsOn",
		"Interval", "Timeout", "Grace", "MemoryWarn", "CPUWarn"}
}

func addTo(list []string, values ...string) []string {
	values = slices.DeleteFunc(values, func(v string) bool { return v == "" })
	if len(values) == 0 {
		return nil
	}
	return append(list, values...)
}

// parseBool reads a boolean as systemd does (systemd.syntax(7)).
func parseBool(value string) (bool, error) {
	switch strings.ToLower(value) {
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "", "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return false, fmt.Errorf("want yes or no, found %s", quoted(value))
}

func parseCount(value string) (int, error) {
	if value == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 || n > maxWorkers {
		return 0, fmt.Errorf("want a number from 0 to %d, found %s", maxWorkers, quoted(value))
	}
	return n, nil
}

// parseWorkers reads "10", which is 1..10, or words: ranges such as "3001..3010" and
// "web-01..12", whose numbers keep the leading zeros of the first, and names, which
// begin with a letter: "eu us". One name alone is a slip of the pen.
func parseWorkers(value string) ([]string, error) {
	words := strings.Fields(value)
	if len(words) == 1 && strings.Trim(value, "0123456789") == "" {
		words[0] = "1.." + value
	}
	var names []string
	for _, word := range words {
		more, ok := workersOf(word)
		if names = append(names, more...); !ok || len(names) > maxWorkers || len(words) == 1 && more[0] == word {
			return nil, fmt.Errorf("want a number such as 10, a range such as 3001..3010 or web-01..12, or several names, of at most %d workers, found %s", maxWorkers, quoted(value))
		}
	}
	if unique := slices.Compact(slices.Sorted(slices.Values(names))); len(unique) < len(names) {
		return nil, fmt.Errorf("want each worker once, found %s", quoted(value))
	}
	return names, nil
}

// workersOf returns the names of a range, or the name itself.
func workersOf(word string) (names []string, ok bool) {
	const digits = "0123456789"
	first, last, ranged := strings.Cut(word, "..")
	prefix := first
	if ranged {
		prefix = strings.TrimRight(first, digits)
	}
	if strings.Trim(prefix, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_.:@"+digits) != "" || prefix != "" && strings.Contains(digits+"-_.:@", prefix[:1]) {
		return nil, false
	}
	if !ranged {
		return []string{word}, prefix != ""
	}
	first = first[len(prefix):]
	from, err := strconv.ParseUint(first, 10, 31)
	to, err2 := strconv.ParseUint(strings.TrimPrefix(last, prefix), 10, 31)
	if err != nil || err2 != nil || from > to || to-from >= maxWorkers || to == 0 {
		return nil, false
	}
	for n := from; n <= to; n++ {
		names = append(names, fmt.Sprintf("%s%0*d", prefix, len(first), n))
	}
	return names, true
}

// parseSpan reads a time span: "10s", "1min 30s", "2h", or seconds (systemd.time(7),
// of its units those that make sense here).
func parseSpan(value string) (time.Duration, error) {
	if value == "" {
		return 0, nil
	}
	text := strings.ReplaceAll(strings.ReplaceAll(value, " ", ""), "min", "m")
	if _, err := strconv.ParseUint(text, 10, 31); err == nil {
		text += "s"
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("want a time span such as 10s or 5min, found %s", quoted(value))
	}
	return d, nil
}

// parseBytes reads a size with the suffixes K, M, G, T, powers of 1024 as in
// systemd.resource-control(5).
func parseBytes(value string) (uint64, error) {
	if value == "" {
		return 0, nil
	}
	digits, shift := value, 0
	if i := strings.IndexByte("KMGT", value[len(value)-1]); i >= 0 {
		digits, shift = value[:len(value)-1], 10*(i+1)
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("want bytes such as 512M, found %s", quoted(value))
	}
	return n << shift, nil
}

func parsePercent(value string) (float64, error) {
	if value == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(value, "%"), 10, 20)
	if err != nil {
		return 0, fmt.Errorf("want percent of one processor such as 90%%, found %s", quoted(value))
	}
	return float64(n), nil
}

// line is an assignment or a header, with the number of its first line, from 1.
type line struct {
	number int
	text   string
}

// joined returns the lines of a unit file without comments and blank lines, with
// continued lines put together (systemd.syntax(7): a backslash at the end becomes a
// blank, comments in between are passed over).
func joined(text string) (all []line) {
	number, open := 0, false
	for raw := range strings.Lines(text) {
		number++
		t := strings.TrimSpace(raw)
		if strings.HasPrefix(t, "#") || strings.HasPrefix(t, ";") || t == "" && !open {
			continue
		}
		part, more := strings.CutSuffix(t, `\`)
		if open {
			all[len(all)-1].text += " " + part
		} else {
			all = append(all, line{number, part})
		}
		open = more
	}
	for i := range all {
		all[i].text = strings.TrimSpace(all[i].text)
	}
	return all
}

// quoted returns foreign text for an error, cut to 64 bytes.
func quoted(s string) string {
	if len(s) > 64 {
		s = strings.ToValidUTF8(s[:64], "") + "…"
	}
	return strconv.Quote(s)
}

// Expand returns text with the specifiers of systemd.unit(5) replaced that tell units
// apart: %i the instance or worker as in the unit's name, %I the same without escapes,
// %n the name of the unit, %N without its suffix, %p the prefix, %% a percent sign.
// Another one is an error.
func Expand(text, unit, worker string) (string, error) {
	name := unit[:max(0, strings.LastIndexByte(unit, '.'))]
	prefix, _, _ := strings.Cut(name, "@")
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(text, "%")
		b.WriteString(before)
		if !ok {
			return b.String(), nil
		}
		if after == "" {
			return "", errors.New("a single % at the end: write %% for a percent sign")
		}
		switch after[0] {
		case 'i':
			b.WriteString(worker)
		case 'I':
			b.WriteString(unescape(worker))
		case 'n':
			b.WriteString(unit)
		case 'N':
			b.WriteString(name)
		case 'p':
			b.WriteString(prefix)
		case '%':
			b.WriteByte('%')
		default:
			return "", fmt.Errorf("%s is not known here: use %%i %%I %%n %%N %%p, and %%%% for a percent sign", quoted("%"+after[:1]))
		}
		text = after[1:]
	}
}

// unescape undoes the escapes of unit names (systemd.unit(5), "String Escaping"):
// "-" is a slash, \xXX a byte.
func unescape(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '-' {
			b = append(b, '/')
			continue
		}
		if strings.HasPrefix(s[i:], `\x`) && len(s) >= i+4 {
			if n, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b = append(b, byte(n))
				i += 3
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}
