package probe

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestChecksAreDocumented: docs/checks.md has a section for each kind, with exactly the
// options that the kind takes, and its examples are parsed.
func TestChecksAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/checks.md")
	if err != nil {
		t.Fatal(err)
	}
	option := regexp.MustCompile("(?m)^\\| `([a-z_.NAME]+)` \\|")
	documented := map[string][]string{}
	for section := range strings.SplitSeq(string(page), "\n## ") {
		name, text, _ := strings.Cut(section, "\n")
		for _, m := range option.FindAllStringSubmatch(text, -1) {
			if m[1] != "plain" { // a row of the table of formats
				documented[name] = append(documented[name], m[1])
			}
		}
		slices.Sort(documented[name])
	}
	documented["https"] = documented["http"]
	documented["healthd+tls"] = documented["healthd"]
	for name, k := range kinds() {
		tg, err := splitTarget(k.usage, nil, fullEnv())
		if err != nil {
			t.Fatal(err)
		}
		tg.env.Now, tg.env.Counters = at("2026-11-20T12:00:00Z"), new(Counters)
		if _, err := tg.check(); err != nil {
			t.Fatal(err)
		}
		var asked []string
		for o := range tg.opt.asked {
			if o != "every" && o != "timeout" {
				asked = append(asked, o)
			}
		}
		switch name {
		case "logship", "healthd+tls":
			asked = append(asked, "header.NAME")
		case "healthd": // the page has both in one table
			asked = append(asked, "header.NAME", "ca", "name", "verify")
		case "https":
			asked = append(asked, "header.NAME", "pass", "warn") // those of json
		case "http": // the page has both in one table
			asked = append(asked, "header.NAME", "pass", "warn", "ca", "name", "verify")
		}
		slices.Sort(asked)
		if !slices.Equal(asked, documented[name]) {
			t.Errorf("%s takes %q, documented are %q", name, asked, documented[name])
		}
	}
	code := regexp.MustCompile("(?ms)^```\n(.*?)^```")
	examples := strings.Fields(code.FindStringSubmatch(string(page))[1])
	if len(examples) < 5 {
		t.Errorf("%d examples", len(examples))
	}
	for _, example := range examples {
		mustParse(t, example, fullEnv())
	}
}
