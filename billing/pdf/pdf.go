// Package pdf writes documents as people read them: A4 pages with the providers' prices and the platform's fee side by side
// for each connection, sums that are carried from page to page, the taxes, how to pay, and where the proof is.
//
// Pages are written one after another, and no more than one is held in memory. A character that no font has is never left
// out silently: a box stands for it, and the first page says so ([Fonts]). The same document gives the same bytes wherever
// the same fonts are installed. Start reading at [Write], then at layout.
package pdf

import (
	"io"

	"crossbill/billing/document"
	"crossbill/domain"
)

// ContentType of what is written.
const ContentType = "application/pdf"

// Write writes a document. It returns an Unavailable error if the output does not take it, and an Internal error for an
// installed font that is broken.
func Write(w io.Writer, d *document.Document, fonts *Fonts) error {
	f := newFile(w)
	l := &layout{canvas: newCanvas(f, fonts), d: d}
	l.document()
	if err := l.finish(); err != nil {
		return err
	}
	if err := f.end(l.parent, title(d)+" "+d.Number, d.Seller.Name, d.At, d.ID+d.Number); err != nil {
		return domain.Errorf(domain.Unavailable, "pdf.Write", "the document could not be written: %w", err)
	}
	return nil
}

func title(d *document.Document) string {
	switch d.Type {
	case document.TypeCreditNote:
		return "Credit note"
	case document.TypeSelfBilledInvoice:
		return "Self-billed invoice"
	case document.TypeSelfBilledCreditNote:
		return "Self-billed credit note"
	}
	return "Invoice"
}
