package redact

import (
	"maps"
	"strings"
	"testing"

	"sidecar/internal/gelf"
	"sidecar/internal/record"
)

const jwt = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOjE5NzB9.64d5o71BEIXS34fNBbfAYLhzY30iV3Ng"

// TestText has each rule with what looks like its secrets and is none: want is
// empty for a text that stays.
func TestText(t *testing.T) {
	r := newRedactor(t, Options{})
	check := func(in, want string) {
		t.Helper()
		if want == "" {
			want = in
		}
		got := string(r.AppendText([]byte("> "), []byte(in)))
		if got != "> "+want {
			t.Errorf("%s\nbecomes %s\nwant      %s", in, got[2:], want)
		}
		if again := string(r.AppendText(nil, []byte(got[2:]))); again != want {
			t.Errorf("%s\nbecomes %s the second time", in, again)
		}
	}
	// authorization
	check("Authorization: Bearer abc", "Authorization: Bearer [REDACTED]")
	check("authorization: Basic dTpw\r\nHost: a", "authorization: Basic [REDACTED]\r\nHost: a")
	check(`Authorization: Digest username="u", response="9f"`+"\nHost: a", "Authorization: Digest [REDACTED]\nHost: a")
	check(`{"h":"Authorization: Digest username=\"u\", response=\"9f\"","a":1}`, `{"h":"Authorization: Digest [REDACTED]","a":1}`)
	check("sent Bearer 0123456789abcdef.", "sent Bearer [REDACTED].")
	check("sent bearer%20ab12cd34ef", "sent bearer%20[REDACTED]")
	check("sent Basic dXNlcjpwYXNz to", "sent Basic [REDACTED] to")
	check("Bearer token is missing", "")
	check("Bearer authentication failed", "")
	check("Basic authentication failed", "")
	check("forbearer 0123456789abcdef", "")
	check(`WWW-Authenticate: Bearer realm="a"`, "")
	check(`{"authorization":"Bearer x","authorizationType":"rbac"}`, `{"authorization":"Bearer [REDACTED]","authorizationType":"rbac"}`)
	// jwt
	check("token rejected: "+jwt+".", "token rejected: [REDACTED].")
	check("x="+jwt+"&y=1", "x=[REDACTED]&y=1")
	check("eyJhbGciOiJIUzI1NiJ9", "")
	check("heyJude.mp3 and eyJ.b.c", "")
	// uri
	check("postgres://app:pa55@db:5432/shop", "postgres://app:[REDACTED]@db:5432/shop")
	check("redis://:pa55@cache/0", "redis://:[REDACTED]@cache/0")
	check("amqp://u:p@ss@mq", "amqp://u:[REDACTED]@mq")
	check("mysql://u:p/a?s@db/x", "mysql://u:[REDACTED]@db/x")
	check("http://u:p@[::1]:80/", "http://u:[REDACTED]@[::1]:80/")
	check(`postgres:\/\/app:pa55@db`, "postgres://app:[REDACTED]@db")
	check("http://localhost:8080/@scope/pkg", "")
	check("http://[::1]:8080/a@b", "")
	check("ssh://git@github.com:22/a", "")
	check("see https://a.example/b:c and d@e.example", "")
	check("at file:///srv/app.js:3:26", "")
	// key
	check("GET /reset?token=abc&lang=en 200", "GET /reset?token=[REDACTED]&lang=en 200")
	check("grant_type=refresh_token&refresh_token=a1&client_secret=b2", "grant_type=refresh_token&refresh_token=[REDACTED]&client_secret=[REDACTED]")
	check("user[password]=a&user%5Bpassword%5D=b&c=d", "user[password]=[REDACTED]&user%5Bpassword%5D=[REDACTED]&c=d")
	check("connect password=a user=b", "connect password=[REDACTED] user=b")
	check("(password=a)", "(password=[REDACTED])")
	check("password=a,b user=c", "password=[REDACTED] user=c")
	check("password=a,user=c", "password=[REDACTED],user=c")
	check("password = 'a b', user = 'c'", "password = '[REDACTED]', user = 'c'")
	check("{ password: 'a\\'b', user: 'c' }", "{ password: '[REDACTED]', user: 'c' }")
	check("Password: hunter2\nUser: c", "Password: [REDACTED]\nUser: c")
	check("--db-password=a --port 3000", "--db-password=[REDACTED] --port 3000")
	check("--db-password a --port 3000", "--db-password [REDACTED] --port 3000")
	check(`["--db-password","a","--port"]`, `["--db-password","[REDACTED]","--port"]`)
	check("[\n  \"--db-password\",\n  \"a\",\n  \"--port\"]", "[\n  \"--db-password\",\n  \"[REDACTED]\",\n  \"--port\"]")
	check("--password\nnext line", "")
	check("--password DB_TOKEN: abc", "--password [REDACTED]: [REDACTED]")
	check(`{"argv":"--password\nBearer abcdefgh12"}`, `{"argv":"--password\nBearer [REDACTED]"}`)
	check("curl --token Bearer abc -v", "curl --token [REDACTED] -v")
	check("usage: --token <token> --password [file]", "")
	check("X-Api-Key: a1", "X-Api-Key: [REDACTED]")
	check("PGPASSWORD=a psql", "PGPASSWORD=[REDACTED] psql")
	check(`{"user":"ann","password":"a\"b","n":1}`, `{"user":"ann","password":"[REDACTED]","n":1}`)
	check(`{"password" : 123 , "n":1}`, `{"password" : "[REDACTED]" , "n":1}`)
	check(`{"password":{"value":"x]}","a":[1]},"n":1}`, `{"password":"[REDACTED]","n":1}`)
	check(`{"secret":["a","b"],"n":1}`, `{"secret":"[REDACTED]","n":1}`)
	check(`{"password":true,"token":null,"secret":""}`, "")
	check(`{"a":"{\"password\":\"x\",\"b\":1}"}`, `{"a":"{\"password\":\"[REDACTED]\",\"b\":1}"}`)
	check(`{"a":"{\"b\":\"{\\\"token\\\":\\\"x\\\",\\\"c\\\":1}\"}"}`, `{"a":"{\"b\":\"{\\\"token\\\":\\\"[REDACTED]\\\",\\\"c\\\":1}\"}"}`)
	check(`{\"token\":7,\"c\":1}`, `{\"token\":\"[REDACTED]\",\"c\":1}`)
	check(`{"p\u0061ssword":"x","b":"\u00e9"}`, `{"password":"[REDACTED]","b":"\u00e9"}`)
	check(`["\u0041KIAZ5L0LRKHY0WITE76"]`, `["[REDACTED]"]`)
	check(`["\\u0041KIAZ5L0LRKHY0WITE76"]`, `["[REDACTED]"]`)
	check(`{"a":"\u0041 \/ b"}`, "")
	check(`{"user":"ann","password":"abc`, `{"user":"ann","password":"[REDACTED]`)
	check("tokens=12 tokenCount=3 token_type=Bearer passwordStrength=weak monkey=1 author=x", "")
	check("compass=1 spin=2 japan=3 passport=4 secretary=5 keyboard: pl company: c", "")
	check("pass: 12 fail: 3, pin: stuck", "")
	check("otp: 123456", "otp: [REDACTED]")
	check("Server=db;Pwd=abc;User Id=x", "Server=db;Pwd=[REDACTED];User Id=x")
	check("PWD=/srv/app OLDPWD=/root", "")
	check("Unexpected token } in JSON at position 3", "")
	check("if (token === undefined || secret == null)", "")
	check("?page_token=abc&nextToken=d", "")
	// cookie, session
	check("Cookie: theme=dark; sid=abc; lang=pl", "Cookie: theme=dark; sid=[REDACTED]; lang=pl")
	check("Set-Cookie: auth_id=abc; Path=/; HttpOnly", "Set-Cookie: auth_id=[REDACTED]; Path=/; HttpOnly")
	check(`{"cookie":"theme=dark; remember_me=1; connect.sid=s%3Aabc"}`, `{"cookie":"theme=dark; remember_me=[REDACTED]; connect.sid=[REDACTED]"}`)
	check("auth_id=5 outside of cookies", "")
	check("GET /app;jsessionid=a%3Ab 200", "GET /app;jsessionid=[REDACTED] 200")
	check("sidebar=1 sid: 5", "")
	// card
	check(`{"card":{"number":"4940000264185810","exp":"12/29"}}`, `{"card":{"number":"[REDACTED]","exp":"12/29"}}`)
	check(`{"number":"4111 1111 1111 1111"}`, `{"number":"[REDACTED]"}`)
	check(`{"number":"4111 1111 1111 1112","orderNumber":"4111111111111111"}`, "")
	check("iban=PL43538045117876066285788621&cvv=897", "iban=[REDACTED]&cvv=[REDACTED]")
	check("iban=unknown pan=-12.5", "")
	// pem
	key := "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----\n"
	check(key, "-----BEGIN RSA PRIVATE KEY-----\n[REDACTED]\n-----END RSA PRIVATE KEY-----\n")
	check(strings.ReplaceAll(key, "\n", `\n`), `-----BEGIN RSA PRIVATE KEY-----\n[REDACTED]\n-----END RSA PRIVATE KEY-----\n`)
	check("-----BEGIN PRIVATE KEY-----\nMIIE", "-----BEGIN PRIVATE KEY-----\n[REDACTED]")
	check("-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----", "")
	check("-----------", "")
	// tokens
	for _, s := range []string{
		"AKIAZ5L0LRKHY0WITE76", "ASIAZ5L0LRKHY0WITE76", "ghp_0123456789abcdefghij0123456789abcdef", "github_pat_0123456789abcdefghij_0",
		"glpat-0123456789abcdefghij", "AIza0123456789abcdefghij0123456789abcde", "npm_0123456789abcdefghij0123456789abcdef",
		"sk_live_0123456789", "rk_test_0123456789", "xoxb-0123456789-abc", "hvs.8M5KO9CijRjpPeG0DEykXEVg", "hvb.8M5KO9CijRjpPeG0DEykXEVg",
		"$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy", "sk-proj-0123456789abcdef", "whsec_0123456789abcdef",
	} {
		check("found "+s+", really", "found [REDACTED], really")
		check(`{"a":"`+s+`"}`, `{"a":"[REDACTED]"}`)
		check(`a\n`+s, `a\n[REDACTED]`)
		check("x"+s[:len(s)/2], "")
	}
	check("AKIA AKIAXYZ ghp_short sk_test_ npm_config_cache xoxb-1 hvs.x $2a$10$ glpat- task_live_0123456789abc", "")
}

// TestNames has the names of fields, each with a value that no other rule knows.
func TestNames(t *testing.T) {
	r := newRedactor(t, Options{Keys: []string{"badge no"}, Keep: []string{"form_token"}})
	apply := func(name, value string) string {
		rec := record.Record{Fields: []record.Field{{Name: record.NewName(name), Value: record.Value{Kind: record.Quoted, Bytes: []byte(`"` + value + `"`)}}}}
		r.Apply(&rec)
		return strings.Trim(string(rec.Fields[0].Value.Bytes), `"`)
	}
	for _, name := range strings.Fields(`password PASSWORD db_passwd db_pass PGPASSWORD smtpPassword SmtpPassword MYSQL_PWD passphrase secret
		client_secret clientSecret CLIENT-SECRET token refreshToken access-token idToken id_token csrfToken x-csrf-token X_AUTH_TOKEN
		api_key apikey apiKey x-api-key X-API-KEY privateKey private_key secretAccessKey AWS_SECRET_ACCESS_KEY accessKeyId secret_id jwt
		JWT_SECRET SESSION_SECRET sessionId jsessionid connect_sid cvv card_cvv cvc cardCvc2 otp user_pin authorization
		proxy-authorization cookie set-cookie password_value password_hunter user_password_new password2 password_2 tokenValue secrets_x_secret
		badge_no user_badgeNo passwordHash bearer userpassword JWTToken oauth2Token`) {
		if got := apply(name, "hunter2"); got != Mask {
			t.Errorf("%s: %s", name, got)
		}
	}
	for _, name := range strings.Fields(`tokens tokenCount max_tokens token_type tokenType expires_in passwordResetRequired passwordStrength password_changed_at
		password_policy_min_length authorized authorizationType author authority department secretary keyboard key primaryKey cacheKey keyCount
		monkey compass bypass spin pinned pinterest passport passenger company japan panel expand urban cookies_theme cookieName xsrfCookieName
		xsrfHeaderName publicKey publishable_key nextPageToken secret_name form_token badge_note badgeNote user_id client_id username session
		otpauth footprint tokenizer passing pineapple description_number number orderNumber card_last4 auth oauth side`) {
		if got := apply(name, "hunter2"); got != "hunter2" {
			t.Errorf("%s: %s", name, got)
		}
	}
	for value, want := range map[string]string{"true": "true", "null": "null", Mask: Mask} {
		if got := apply("password", value); got != want {
			t.Errorf("password %s: %s", value, got)
		}
	}
	for _, c := range [][3]string{
		{"headers_authorization", "Bearer x", "Bearer [REDACTED]"},
		{"headers_authorization", "Custom x y", Mask},
		{"headers_cookie", "theme=dark; sid=a", "theme=dark; sid=[REDACTED]"},
		{"card_number", "4940 0002 6418 5810", Mask},
		{"card_number", "**** 5810", "**** 5810"},
		{"iban", "PL43538045117876066285788621", Mask},
		{"iban", "none", "none"},
		{"options_auth", "ann:hunter2", Mask},
		{"env_PWD", "/srv", "/srv"},
		{"db_url", "postgres://u:p@h", "postgres://u:[REDACTED]@h"},
	} {
		if got := apply(c[0], c[1]); got != c[2] {
			t.Errorf("%s %s: %s, want %s", c[0], c[1], got, c[2])
		}
	}
}

// TestKinds checks the forms in which a value can be, and that what the entry
// holds is not changed.
func TestKinds(t *testing.T) {
	r := newRedactor(t, Options{})
	for _, c := range []struct {
		name string
		kind record.Kind
		in   string
		want string
	}{
		{"pin", record.Number, "1234", `"[REDACTED]"`},
		{"cvv", record.Number, "897", `"[REDACTED]"`},
		{"pass", record.Number, "12", `12`},
		{"tokens", record.Number, "1532", `1532`},
		{"a", record.Quoted, `"\u0070assword=x\ty"`, `"password=[REDACTED]\ty"`},
		{"a", record.Quoted, `"a\nAKIAZ5L0LRKHY0WITE76\n"`, `"a\n[REDACTED]\n"`},
		{"a", record.Quoted, `"\u001bAKIAZ5L0LRKHY0WITE76"`, `"\u001b[REDACTED]"`},
		{"a", record.Quoted, `"amqp:\/\/u:p@h"`, `"amqp://u:[REDACTED]@h"`},
		{"a", record.Quoted, `"\"token\":\"\ud83d\ude00\" \ud83d\ude00"`, `"\"token\":\"[REDACTED]\" 😀"`},
		{"a", record.Quoted, `"\u0041 \/ \n \"x\""`, `"\u0041 \/ \n \"x\""`},
		{"a", record.Text, "token=\xff\xfe b", `"token=[REDACTED] b"`},
	} {
		in := []byte(c.in)
		rec := record.Record{Short: record.Value{Bytes: []byte("m")}, Fields: []record.Field{{Name: record.NewName(c.name), Value: record.Value{Kind: c.kind, Bytes: in}}}}
		r.Apply(&rec)
		frame := string(gelf.Append(nil, &rec, &gelf.Options{}))
		if want := `"_` + c.name + `":` + c.want; !strings.Contains(frame, want+"}") {
			t.Errorf("%s: %s, want %s", c.in, frame, want)
		}
		if string(in) != c.in {
			t.Errorf("%s was changed to %s", c.in, in)
		}
	}
}

// TestCut checks secrets of which the end is missing, as in short messages and in
// lines that a layer below cut.
func TestCut(t *testing.T) {
	r := newRedactor(t, Options{})
	long := strings.Repeat("a ", 200)
	for _, secret := range []string{jwt, "AKIAZ5L0LRKHY0WITE76", "sk_live_0123456789", "Bearer 0123456789abcdef", "postgres://app:Corr3ct@db", "password=hunter2"} {
		start := strings.LastIndexAny(secret, "=:_ ") + 1
		if secret == jwt {
			start = strings.IndexByte(jwt, '.') + 1
		}
		start = max(start, 4)
		for end := start + 1; end <= len(secret); end++ {
			for _, mark := range []string{"", "…"} {
				got := string(r.AppendText(nil, []byte(long+secret[:end]+mark)))
				if strings.Contains(got, secret[start:end]) && end-start > 1 || !strings.Contains(got, Mask) {
					t.Errorf("%s: %s", secret[:end], got[len(long):])
				}
			}
		}
	}
}

// TestFieldStaysShort checks that masks do not make a field too long for
// OpenSearch (Graylog rule R10).
func TestFieldStaysShort(t *testing.T) {
	r := newRedactor(t, Options{})
	text := strings.Repeat("pin=1&ł=2&", 2900)
	rec := record.Record{Fields: []record.Field{{Name: record.NewName("a"), Value: record.Value{Bytes: []byte(text)}}}}
	r.Apply(&rec)
	if v := rec.Fields[0].Value.Bytes; len(v) > maxFieldBytes || len(v) < maxFieldBytes-3 || !strings.Contains(string(v), Mask) {
		t.Errorf("%d bytes", len(v))
	}
	if rec.Degraded != record.ValueCut {
		t.Errorf("degraded is %v", rec.Degraded)
	}
}

func TestOffAndCounts(t *testing.T) {
	r := newRedactor(t, Options{
		Off:      []string{"session", "uri", "pem"},
		Patterns: []Pattern{{"badge", `\bB-\d{4}\b`}, {"customer", `customer (\w+)`}},
	})
	in := "sessionid=1 amqp://u:p@h token=x password=y B-1234 customer ann\n-----BEGIN PRIVATE KEY-----\nA\n-----END PRIVATE KEY-----"
	want := "sessionid=1 amqp://u:p@h token=[REDACTED] password=[REDACTED] [REDACTED] customer [REDACTED]\n-----BEGIN PRIVATE KEY-----\nA\n-----END PRIVATE KEY-----"
	if got := string(r.AppendText(nil, []byte(in))); got != want {
		t.Errorf("%s", got)
	}
	rec := record.Record{Short: record.Value{Kind: record.Quoted, Bytes: []byte(`"B-1234"`)}}
	r.Apply(&rec)
	if string(rec.Short.Bytes) != Mask {
		t.Errorf("%s", rec.Short.Bytes)
	}
	counts := maps.Collect(r.Counts())
	if len(counts) != len(r.Rules()) || counts["key"] != 2 || counts["badge"] != 2 || counts["customer"] != 1 || counts["session"] != 0 || counts["uri"] != 0 {
		t.Errorf("%v", counts)
	}
}

func TestWrongOptions(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Off: []string{"keys"}}, `switch off rule "keys": there is none; the rules are key, authorization,`},
		{Options{Keys: []string{"--"}}, `add key "--": want`},
		{Options{Keys: []string{strings.Repeat("a", 65)}}, "add key"},
		{Options{Keep: []string{""}}, `keep key ""`},
		{Options{Patterns: []Pattern{{"A", "a"}}}, `name pattern "A": want`},
		{Options{Patterns: []Pattern{{"key", "a"}}}, `name pattern "key": another rule`},
		{Options{Patterns: []Pattern{{"a", "a"}, {"a", "b"}}}, `name pattern "a": another rule`},
		{Options{Patterns: []Pattern{{"a", "("}}}, "compile pattern a: "},
		{Options{Patterns: []Pattern{{"a", "a*"}}}, "compile pattern a: it matches the empty text"},
		{Options{Patterns: []Pattern{{"a", strings.Repeat("a", 1025)}}}, "compile pattern a: 1025 bytes, at most 1024"},
	} {
		if _, err := New(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.want, err)
		}
	}
	_, err := New(Options{Off: []string{"x"}, Keys: []string{""}, Patterns: []Pattern{{"", ""}}})
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("not all is said: %v", err)
	}
	if _, err := New(Options{Patterns: []Pattern{{"a", strings.Repeat("a", 1024)}}, Keys: []string{strings.Repeat("a", 64)}}); err != nil {
		t.Error(err)
	}
}

// TestLinear counts the bytes that are looked at in hostile texts: it must grow
// with the text, not with its square.
func TestLinear(t *testing.T) {
	r := newRedactor(t, Options{})
	for _, s := range []string{
		"Bearer ", "a://a:", "a://a", "a://b:c/", "a://b:c@", "token=", "token: ", "iban=", "iban:'", `iban:"`, "PWD=/", "cookie: a=b ", "cookie:[",
		"cookie=", "authorization: x ", "authorization: Digest ", "authorization=", "eyJ", "eyJaaaaaaaa.", "-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "--password ",
		"password=)", ")", "password={", `password:"{`, `\"`, `\`, `"password":\`, `"`, "Basic ", "npm_", "sk_live_", "$2a$", "AKIA", "--", "-", "=", ":", " =",
		"number=", `"number":1,`, "auth=", "a.b-c_d", `\u0041`, `\/`, "password:[{'", "[REDACTED]", "password=[REDACTED]", "pin: ", "literal=true token=true ",
	} {
		work := func(n int) int {
			r.s.work = 0
			r.AppendText(nil, []byte(strings.Repeat(s, n/len(s))))
			return r.s.work
		}
		if one, four := work(1<<14), work(1<<16); four > 5*one+1<<12 || four > 64<<16 {
			t.Errorf("%q: %d bytes looked at in 16 KiB, %d in 64 KiB", s, one, four)
		}
	}
}
