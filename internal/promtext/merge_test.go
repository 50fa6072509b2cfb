package promtext

import (
	"strings"
	"testing"
)

func TestMergeGoldenPages(t *testing.T) {
	var targets []*Target
	for _, w := range []string{"1", "2"} {
		targets = append(targets, readText(t, Options{App: "shop", Worker: w}, string(golden(t, "worker"+w+".txt"))))
	}
	page := merge(t, targets)
	for _, want := range []string{
		`http_requests_total{app="shop",worker="2",method="GET",route="/",code="200"} 3`,
		`taken_labels{app="shop",worker="1",exported_app="theirs",exported_worker="99",job="mail"} 1`,
		`# TYPE jobs_failed_total counter`,
		`odd_values{app="shop",worker="1",kind="nan"} Nan`,
	} {
		if strings.Count(page, want+"\n") != 1 {
			t.Errorf("%s\nis there %d times in\n%s", want, strings.Count(page, want+"\n"), page)
		}
	}
}
