package dotenv

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reecho/broker/brokertest/seed"
)

// needPHP is the variable that makes a missing phpdotenv a failure; it is set
// by the end-to-end tests, which install it.
const needPHP = "REECHO_TEST_PHPDOTENV"

// phpAnswer is what testdata/laravel.php prints for a file.
type phpAnswer struct {
	Values  map[string]string `json:"values"`
	Laravel map[string]any    `json:"laravel"`
	Error   string            `json:"error"`
}

// phpdotenv reads files with the real one.
func phpdotenv(t *testing.T, files []string, env map[string]string) []phpAnswer {
	t.Helper()
	var input bytes.Buffer
	jobs := json.NewEncoder(&input)
	for _, text := range files {
		if err := jobs.Encode(map[string]any{"text": []byte(text), "env": env}); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "php", "testdata/laravel.php")
	cmd.Env, cmd.Stdin, cmd.Stderr = []string{"PATH=" + os.Getenv("PATH")}, &input, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("php: %v\n%s", err, out)
	}
	answers := make([]phpAnswer, len(files))
	lines := json.NewDecoder(bytes.NewReader(out))
	for i := range answers {
		if err := lines.Decode(&answers[i]); err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		for name, text := range answers[i].Values {
			answers[i].Values[name] = unbase64(t, text)
		}
		for name, value := range answers[i].Laravel {
			if text, is := value.(string); is {
				answers[i].Laravel[name] = unbase64(t, text)
			}
		}
	}
	return answers
}

func unbase64(t *testing.T, text string) string {
	t.Helper()
	decoded, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(decoded)
}

// Every file of the table, and thousands of random ones, give the same texts as
// with the phpdotenv and the env() of an installed Laravel. What phpdotenv
// refuses has a problem here, and nothing else has, but for an end that is
// missing: phpdotenv says nothing then. REECHO_TEST_SEED repeats a run.
func TestLikePHP(t *testing.T) {
	t.Parallel()
	if exec.Command("php", "-r", "exit(is_file('/usr/share/php/Dotenv/autoload.php') ? 0 : 1);").Run() != nil {
		if os.Getenv(needPHP) != "" {
			t.Fatal("php with phpdotenv is missing: install php-cli and php-laravel-framework")
		}
		t.Skip("php with phpdotenv is not installed")
	}
	random := rand.New(rand.NewPCG(seed.First(t), 0))
	var files []string
	for _, tt := range table {
		files = append(files, tt.text)
	}
	for range 4000 {
		files = append(files, randomFile(random))
	}
	answers := phpdotenv(t, files, realEnv)
	for i, text := range files {
		compare(t, text, answers[i])
		if t.Failed() {
			return
		}
	}
}

func compare(t *testing.T, text string, php phpAnswer) {
	t.Helper()
	values, _, problems := Parse([]byte(text), lookIn(realEnv))
	if php.Error != "" {
		if len(problems) == 0 {
			t.Errorf("%q: no problem, phpdotenv says %s", text, php.Error)
		}
		return
	}
	for _, p := range problems {
		if !strings.Contains(p.Rule, "Laravel ignores") {
			t.Errorf("%q: %v, phpdotenv reads it", text, p)
		}
	}
	laravel := map[string]any{}
	for name := range realEnv {
		delete(values, name) // the real environment wins
	}
	for name, value := range values {
		switch text, kind := Laravel(value); kind {
		case True, False:
			laravel[name] = kind == True
		case Unset:
			laravel[name] = nil
		default:
			laravel[name] = text
		}
	}
	if diff := cmp.Diff(php.Values, values); diff != "" {
		t.Errorf("%q (-phpdotenv +reecho):\n%s", text, diff)
	}
	if diff := cmp.Diff(php.Laravel, laravel); diff != "" {
		t.Errorf("%q (-env() +reecho):\n%s", text, diff)
	}
}

// pieces are what random files are made of: everything that means something in
// some dialect.
var pieces = []string{
	"A", "B", "REVERB_APP_KEY", "FROM_ENV", "EMPTY_ENV", "a.b", "s3cr", "x", "1", "é", "日", "\xff", "\xe6\x97", "null", "true", "(empty)",
	"=", "=", "=", "=", `="`, "='", `"`, `"`, "'", "#", " ", " ", "\t", "\v", "\f", "\x00", "\u00a0", `\`, `\\`, `\"`, `\n`, `\t`, `\$`, `\f`,
	"$", "${", "}", "${A}", "${B}", "${NOPE}", "${FROM_ENV}", "${EMPTY_ENV}", "$A", "{", "(", ")", "`", ":", ",", "!", "export ", "export\t",
	"\n", "\n", "\n", "\n", "\r\n", "\r", "\ufeff", "\n\"\n", "\nA=", "\nB=\"", "\"\n", "\n#",
}

func randomFile(random *rand.Rand) string {
	var b strings.Builder
	if random.IntN(2) == 0 {
		b.WriteString("A=")
	}
	for range random.IntN(40) {
		b.WriteString(pieces[random.IntN(len(pieces))])
	}
	return b.String()
}
