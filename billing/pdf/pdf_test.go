package pdf_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"crossbill/billing/document"
	"crossbill/billing/document/documenttest"
	"crossbill/billing/pdf"
	"crossbill/domain"
)

// With -documents DIR the documents are written there too, for looking at them.
var documents = flag.String("documents", "", "a directory that the documents are written to")

func fonts(t *testing.T, dirs ...string) *pdf.Fonts {
	t.Helper()
	f, err := pdf.NewFonts(nil, dirs...)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func written(t *testing.T, d *document.Document, f *pdf.Fonts) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := pdf.Write(&b, d, f); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// read returns the pages' texts as another program reads them, with a line for each row.
func read(t *testing.T, data []byte) []string {
	t.Helper()
	tool, err := exec.LookPath("pdftotext")
	if err != nil {
		t.Skip("pdftotext is not installed (Debian: poppler-utils)")
	}
	c := exec.Command(tool, "-layout", "-enc", "UTF-8", "-", "-")
	c.Stdin = bytes.NewReader(data)
	var problems bytes.Buffer
	c.Stderr = &problems
	text, err := c.Output()
	if err != nil || problems.Len() > 0 {
		t.Fatalf("pdftotext: %v %s", err, problems.String())
	}
	return strings.Split(strings.TrimSuffix(string(text), "\f"), "\f")
}

// flat is all of a document's text, without its lines.
func flat(t *testing.T, data []byte) string {
	t.Helper()
	return strings.Join(strings.Fields(strings.Join(read(t, data), " ")), " ")
}

func find(t *testing.T, name string) *document.Document {
	t.Helper()
	for _, c := range documenttest.All() {
		if c.Name == name {
			return c.Document
		}
	}
	t.Fatalf("there is no document %q", name)
	return nil
}

// figure writes money as the documents do.
func figure(m domain.Money) string {
	text := strings.Replace(m.Amount(), "-", "−", 1)
	for re := regexp.MustCompile(`(\d)(\d{3})(\.|,|$)`); re.MatchString(text); {
		text = re.ReplaceAllString(text, "$1,$2$3")
	}
	return text
}

// TestDocuments reads every document back: who, whom, how much, and every line's amount.
func TestDocuments(t *testing.T) {
	t.Parallel()
	f := fonts(t, pdf.SystemFontDirs...)
	for _, c := range documenttest.All() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			data, d := written(t, c.Document, f), c.Document
			if *documents != "" {
				if err := os.WriteFile(filepath.Join(*documents, strings.NewReplacer(" ", "_", ",", "").Replace(c.Name)+".pdf"), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(data, written(t, c.Document, f)) {
				t.Error("the same document has other bytes")
			}
			text := strings.Join(read(t, data), "\n")
			want := []string{d.Number, figure(d.Total), figure(d.Net), figure(d.Passthrough), d.Proof, document.Day(d.At)}
			if !strings.Contains("Arabic CJK", c.Name) { // of which one is in another order, and one may have no font
				want = append(want, d.Seller.Name, d.Buyer.Name)
			}
			for _, s := range d.Taxes {
				want = append(want, figure(s.Tax), figure(s.Taxable))
			}
			for l := range d.Lines() {
				want = append(want, l.Description, figure(l.Amount), l.ConnectionID)
			}
			for _, w := range want {
				if !strings.Contains(text, w) {
					t.Fatalf("%q is not in\n%s", w, text)
				}
			}
		})
	}
}

// TestWhatIsSaid looks at what differs from document to document.
func TestWhatIsSaid(t *testing.T) {
	t.Parallel()
	f := fonts(t)
	for name, want := range map[string][]string{
		"normal":            {"Invoice", "VAT NL004495445B01", "NL91 ABNA 0417 1643 00", "Payable by 1 May 2026", "11 – 31 March 2026", "No margin", "Standard rate (S)", "Page 1 of 1", "Netherlands"},
		"reverse charge":    {"VATEX-EU-AE", "the buyer owes the tax", "VAT DE136695976"},
		"adjustments":       {"corrects February 2026", "−43.46", "300 SEK at 0.1047"},
		"credit note":       {"Credit note", "Outage of 12 March", "CB-000042", "Amount credited"},
		"settlement":        {"Self-billed invoice", "Amount owed to the provider", "in the seller's name"},
		"settlement credit": {"Self-billed credit note", "ST-000003"},
		"void":              {"Void: nothing of this invoice is owed", "0.00 EUR"},
		"paid":              {"Paid on 21 April 2026", "0.00 EUR", "Nothing is to be paid"},
		"credited since":    {"966.84 EUR"},
		"nobody known":      {"(name not recorded)", "Harbour Networks"},
		"erased":            {domain.Erased},
		"no decimals":       {"42,472 JPY"},
		"three decimals":    {"41.329 BHD"},
		"Cyrillic":          {`ТОВ "Дніпровські мережі" & Ко <Київ>`},
		"Greek":             {"Ελληνικά Δίκτυα Ανώνυμη Εταιρεία"},
	} {
		text := flat(t, written(t, find(t, name), f))
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s does not say %q:\n%s", name, w, text)
			}
		}
	}
	for _, name := range []string{"void", "paid", "owed to the customer", "credit note", "settlement"} {
		if text := strings.Join(read(t, written(t, find(t, name), f)), "\n"); strings.Contains(text, "IBAN") {
			t.Errorf("%s names an account to pay to", name)
		}
	}
}

// TestCarriedForward adds up what is in bold on each page.
func TestCarriedForward(t *testing.T) {
	t.Parallel()
	pages := read(t, written(t, find(t, "many connections"), fonts(t)))
	if len(pages) < 3 {
		t.Fatalf("%d pages", len(pages))
	}
	row := func(page, name string) (price, fee int64) {
		m := regexp.MustCompile(`(?m)^\s*` + name + `\s.*?([\d,]+\.\d\d)\s+([\d,]+\.\d\d)$`).FindStringSubmatch(page)
		if m == nil {
			return -1, -1
		}
		return minor(t, m[1]), minor(t, m[2])
	}
	price, fee := int64(0), int64(0)
	for n, page := range pages {
		if n > 0 {
			if p, f := row(page, "Brought forward"); p != price || f != fee {
				t.Errorf("page %d begins with %d and %d, after %d and %d", n+1, p, f, price, fee)
			}
		}
		for _, m := range regexp.MustCompile(`(?m)^\s*con_\w+ .*?([\d,]+\.\d\d)\s+([\d,]+\.\d\d)$`).FindAllStringSubmatch(page, -1) {
			price, fee = price+minor(t, m[1]), fee+minor(t, m[2])
		}
		end := "Carried forward"
		if n == len(pages)-1 {
			end = "Sum"
		}
		if p, f := row(page, end); p != price || f != fee {
			t.Errorf("page %d ends with %d and %d, having come to %d and %d", n+1, p, f, price, fee)
		}
		if !strings.Contains(page, "Connection and what is charged") || !strings.Contains(page, fmt.Sprintf("Page %d of %d", n+1, len(pages))) {
			t.Errorf("page %d has no head or no number", n+1)
		}
	}
	if d := find(t, "many connections"); price != d.Passthrough.Minor || fee != d.Fee.Minor {
		t.Errorf("the pages come to %d and %d", price, fee)
	}
}

func minor(t *testing.T, figure string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(strings.NewReplacer(",", "", ".", "").Replace(figure), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const boxed = "A box stands for each"

// TestMissingFonts: what can't be set is said, in the document and to the operator.
func TestMissingFonts(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	bare, err := pdf.NewFonts(slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	text := flat(t, written(t, find(t, "CJK"), bare))
	if !strings.Contains(text, boxed) || !strings.Contains(text, "U+6771") || !strings.Contains(text, "□□□") || !strings.Contains(log.String(), "東") {
		t.Errorf("no font has 東, and that is not said:\n%s\n%s", text, log.String())
	}
	for _, name := range []string{"Cyrillic", "Greek", "normal"} {
		if strings.Contains(flat(t, written(t, find(t, name), bare)), boxed) {
			t.Errorf("%s has boxes", name)
		}
	}
	// What no installed font has, no directory does.
	if text := flat(t, written(t, find(t, "CJK"), fonts(t, t.TempDir(), "/nowhere"))); !strings.Contains(text, boxed) {
		t.Error("an empty directory has fonts")
	}
}

// TestInstalledFonts sets what an installed font has.
func TestInstalledFonts(t *testing.T) {
	t.Parallel()
	const dir = "/usr/share/fonts/truetype/droid"
	if _, err := os.Stat(dir); err != nil {
		t.Skip("Droid Sans Fallback is not installed (Debian: fonts-droid-fallback)")
	}
	text := flat(t, written(t, find(t, "CJK"), fonts(t, dir)))
	if !strings.Contains(text, "東京港湾ネットワーク株式会社") || strings.Contains(text, boxed) {
		t.Errorf("the name can't be read:\n%s", text)
	}
	broken := t.TempDir() // a file that is no font does not keep others from being used
	if err := os.WriteFile(filepath.Join(broken, "NotoSansBroken-Regular.ttf"), []byte("no font"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text := flat(t, written(t, find(t, "CJK"), fonts(t, broken, dir))); strings.Contains(text, boxed) {
		t.Error("a broken font keeps others from being used")
	}
}

// TestStream writes an invoice of very many lines and holds that its pages are not kept.
func TestStream(t *testing.T) {
	const connections = 1000
	d := *find(t, "normal")
	var lines []document.Line
	for l := range find(t, "normal").Lines() {
		lines = append(lines, l)
	}
	d.Lines = func() iter.Seq[document.Line] {
		return func(yield func(document.Line) bool) {
			for n := range connections {
				for _, l := range lines {
					l.ConnectionID = fmt.Sprintf("con_%d", n)
					if !yield(l) {
						return
					}
				}
			}
		}
	}
	var out counter
	if err := pdf.Write(&out, &d, fonts(t)); err != nil {
		t.Fatal(err)
	}
	if out.n < 256<<10 || out.peak > 4<<20 {
		t.Errorf("%d KiB took up to %d KiB of memory", out.n>>10, out.peak>>10)
	}
	t.Logf("%d lines, %d KiB, at most %d KiB of memory more than after the first page", connections*len(lines), out.n>>10, out.peak>>10)
}

// counter counts what is written, and now and then what memory is in use beyond what was after the first page.
type counter struct {
	n, next, before, peak int
}

func (c *counter) Write(p []byte) (int, error) {
	if c.n += len(p); c.n >= c.next {
		c.next = c.n + 128<<10
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if c.before == 0 {
			c.before = int(m.HeapAlloc)
		}
		c.peak = max(c.peak, int(m.HeapAlloc)-c.before)
	}
	return len(p), nil
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no room") }

func TestOutputFails(t *testing.T) {
	t.Parallel()
	if err := pdf.Write(full{}, find(t, "normal"), fonts(t)); domain.CodeOf(err) != domain.Unavailable {
		t.Errorf("a full output: %v", err)
	}
}
