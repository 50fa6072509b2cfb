package health_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sidecar/internal/health"
)

func TestMistakesInNodes(t *testing.T) {
	bad := func(want string, nodes ...health.Node) {
		t.Helper()
		_, err := health.New(noon(), nodes)
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	bad(`node "": want an id of 1 to 256 bytes`, health.Node{Every: 1})
	bad(`node "a b": an id has no spaces, quotes, control characters or letters outside of ASCII`, leaf("a b"))
	bad(`node "/a": an id has no empty word between slashes`, health.Node{ID: "/a", Every: 1})
	bad(`node "a": there are two of that id`, leaf("a"), leaf("a"))
	bad(`node "a/1": its parent "a" does not exist`, leaf("a/1"))
	bad(`node "a/1": its parent "a" is checked itself, and so is no group`, leaf("a"), leaf("a/1"))
	bad(`node "a": it depends on "b", which does not exist`, health.Node{ID: "a", Every: 1, DependsOn: []string{"b"}})
	bad(`node "a": it depends on "", which does not exist`, health.Node{ID: "a", Every: 1, DependsOn: []string{""}})
	bad(`node "a": its state would depend on itself: a -> a`, health.Node{ID: "a", Every: 1, DependsOn: []string{"a"}})
	bad(`node "a": its state would depend on itself: a -> b -> a`,
		health.Node{ID: "a", Every: 1, DependsOn: []string{"b"}}, health.Node{ID: "b", Every: 1, DependsOn: []string{"a"}})
	bad(`node "g": its state would depend on itself: g -> g/1 -> g`,
		health.Node{ID: "g"}, health.Node{ID: "g/1", Parent: "g", Every: 1, DependsOn: []string{"g"}})
	bad(`node "g/1": its state would depend on itself: g/1 -> g/1`,
		health.Node{ID: "g", DependsOn: []string{"g/1"}}, health.Node{ID: "g/1", Parent: "g", Every: 1})
	bad(`node "a": its state would depend on itself: a -> b -> a`,
		health.Node{ID: "a", Parent: "b"}, health.Node{ID: "b", Parent: "a"}, leaf("c"))
	bad(`node "a": a duration is negative`, health.Node{ID: "a", Every: -1})
	bad(`node "a": a duration is negative`, health.Node{ID: "a", Every: 1, Hold: -1})
	bad(`node "a": Weight(3) is no weight`, health.Node{ID: "a", Every: 1, Weight: 3})
	bad(`node "a": rise, fall, x of y and grace are for nodes that are checked; set every`, health.Node{ID: "a", Fall: 2})
	bad(`node "a": a quorum is for groups, which have no check of their own`, health.Node{ID: "a", Every: 1, Quorum: 2})
	bad(`node "a": rise 61 and fall 0: want 0 to 60`, health.Node{ID: "a", Every: 1, Rise: 61})
	bad(`node "a": rise 0 and fall -1: want 0 to 60`, health.Node{ID: "a", Every: 1, Fall: -1})
	bad(`node "a": 3 of the last 2 results: want 1 of 1 to 60 of 60, or 0 of 0`, health.Node{ID: "a", Every: 1, X: 3, Y: 2})
	bad(`node "a": 0 of the last 2 results: want 1 of 1 to 60 of 60, or 0 of 0`, health.Node{ID: "a", Every: 1, Y: 2})
	bad(`node "a": 3 of the last 61 results: want 1 of 1 to 60 of 60, or 0 of 0`, health.Node{ID: "a", Every: 1, X: 3, Y: 61})
	bad(`node "a": quorum 3 of 2: want a quorum from 1 to the number of children`, health.Node{ID: "a", Quorum: 3, Of: 2})
	bad(`node "a": quorum 0 of 2: want a quorum from 1 to the number of children`, health.Node{ID: "a", Of: 2})
	bad(`node "b": public name "My App" has the same address as that of node "a"`,
		health.Node{ID: "a", Every: 1, Public: "my-app"}, health.Node{ID: "b", Every: 1, Public: "My App"})
	bad(`node "a": public name "<b>": '<' is not a letter, digit, space, hyphen, underscore or dot`, health.Node{ID: "a", Every: 1, Public: "<b>"})
	bad("node \"a\": a duration is negative\nnode \"b\": there are two of that id", health.Node{ID: "a", Every: -1}, leaf("b"), leaf("b"))
}

func TestNodesAtTheLimits(t *testing.T) {
	ok := func(n health.Node) {
		t.Helper()
		if _, err := health.New(noon(), []health.Node{n}); err != nil {
			t.Error(err)
		}
	}
	ok(health.Node{ID: strings.Repeat("a", 256)})
	ok(health.Node{ID: `app@\x2d:1.service/2`, Every: time.Second, Rise: 60, Fall: 60, X: 60, Y: 60})
	ok(health.Node{ID: "a", Quorum: 2, Of: 2})
	nodes := []health.Node{leaf("b"), leaf("a")}
	if _, err := health.New(noon(), nodes); err != nil || nodes[0].ID != "b" {
		t.Errorf("%v, the caller's nodes are %v", err, nodes)
	}
}

func TestPublicNames(t *testing.T) {
	for _, name := range []string{"a", "Payments API", "Zahlungen für Straße", "支払い", "v1.2_x-y", strings.Repeat("a", 64), "login-okta", "1"} {
		if err := health.CheckPublic(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", " a", "a ", "-a", ".a", "a.", "a/b", "a\"b", "a\nb", "a=b", "<a>", "a&b", "a\x00", "a\xff", "a\uFFFDb", "a.txt", "a.XML", "a.json", "x All-OK y", strings.Repeat("a", 65)} {
		if err := health.CheckPublic(name); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
	if slug := health.Slug("Payments API v1"); slug != "payments-api-v1" {
		t.Error(slug)
	}
}

// FuzzCheckPublic: what is taken can be written into JSON, XML, text and addresses as
// it is, and says nothing that stands for health.
func FuzzCheckPublic(f *testing.F) {
	f.Add("Payments API")
	f.Add("all-ok")
	f.Add("<\"&'>=:/\x00\xff")
	f.Fuzz(func(t *testing.T, name string) {
		if health.CheckPublic(name) != nil {
			return
		}
		if !utf8.ValidString(name) || strings.ContainsAny(name, "\"\\<>&'=:/?#%\r\n\x00") || strings.Contains(strings.ToUpper(name), "ALL-OK") || name != strings.TrimSpace(name) {
			t.Errorf("%q is taken", name)
		}
	})
}

func TestStates(t *testing.T) {
	for i, name := range []string{"pass", "warn", "fail", "unknown", "starting", "maintenance"} {
		s, err := health.ParseState(name)
		if err != nil || s.String() != name || s.Number() != float64(i) {
			t.Errorf("%s: %v %v %v", name, s, s.Number(), err)
		}
	}
	if _, err := health.ParseState("ok"); err == nil || err.Error() != `parse state "ok": want pass, warn, fail, unknown, starting or maintenance` {
		t.Error(err)
	}
	if s := health.State(9); s.String() != "State(9)" || s.Number() != 3 {
		t.Error(s)
	}
	for _, name := range []string{"critical", "degraded", "info"} {
		if w, err := health.ParseWeight(name); err != nil || w.String() != name {
			t.Errorf("%s: %v %v", name, w, err)
		}
	}
	if _, err := health.ParseWeight("heavy"); err == nil || err.Error() != `parse weight "heavy": want critical, degraded or info` {
		t.Error(err)
	}
}
