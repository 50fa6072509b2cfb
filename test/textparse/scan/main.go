// Command scan fetches pages of metrics and reads them with the parser of Prometheus, all
// series with their labels, once for each line of its input: what a merger would need at
// least if it used that parser.
//
//	scan ADDRESS TARGETS SERIES
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "scan:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("want ADDRESS TARGETS SERIES")
	}
	count, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		series, errs := make([]int, count), make([]error, count)
		var wg sync.WaitGroup
		for i := range count {
			wg.Go(func() { series[i], errs[i] = scan(&client, fmt.Sprintf("http://%s/%s/%d", args[0], args[2], i)) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		fmt.Println(series)
	}
	return nil
}

// scan returns how many series a page has.
func scan(client *http.Client, url string) (series int, err error) {
	r, err := client.Get(url)
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	page, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, err
	}
	p, err := textparse.New(page, r.Header.Get("Content-Type"), labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		return 0, err
	}
	for {
		switch entry, err := p.Next(); {
		case errors.Is(err, io.EOF):
			return series, nil
		case err != nil:
			return series, err
		case entry == textparse.EntrySeries:
			p.Series()
			var l labels.Labels
			p.Labels(&l)
			series++
		}
	}
}
