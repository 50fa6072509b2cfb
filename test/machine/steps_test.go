package machine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExampleIsOfItsSection(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	text := "# Page\n\n## One\n```sh\n# no heading\nfirst\n```\ntext\n```toml\nother\n```\n### Below\n```sh\nsecond\n```\n\n## Two\n```sh\nthird\n```\n"
	if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for heading, want := range map[string]string{
		"# Page":    "# no heading\nfirst\nsecond\nthird\n",
		"## One":    "# no heading\nfirst\nsecond\n",
		"### Below": "second\n",
		"## Two":    "third\n",
	} {
		if got := Example(t, page, heading, "sh"); got != want {
			t.Errorf("%s: got %q, want %q", heading, got, want)
		}
	}
	if got := Example(t, page, "## One", "toml"); got != "other\n" {
		t.Errorf("the other language: got %q", got)
	}
	want := []Block{
		{[]string{"# Page", "## One"}, "sh", "# no heading\nfirst\n"},
		{[]string{"# Page", "## One"}, "toml", "other\n"},
		{[]string{"# Page", "## One", "### Below"}, "sh", "second\n"},
		{[]string{"# Page", "## Two"}, "sh", "third\n"},
	}
	if diff := cmp.Diff(want, Blocks(t, page)); diff != "" {
		t.Error(diff)
	}
}
