package billingaccount

import (
	"slices"
	"strings"

	"crossbill/domain"
)

// MaxEndpointID is how many characters an electronic address has at most (ISO 6523: 35; an e-mail address has more).
const MaxEndpointID = 120

// SchemeEmail is the scheme of e-mail addresses. Invoices with it are sent by mail: Peppol does not know it.
const SchemeEmail = "EM"

// endpointSchemes are the schemes of electronic addresses: those of Peppol's EAS code list (release 3.0.19), and e-mail
// addresses.
var endpointSchemes = strings.Fields("0002 0007 0009 0037 0060 0088 0096 0097 0106 0130 0135 0142 0147 0151 0154 0158 0170 0177 0183 0184 0188 " +
	"0190 0191 0192 0193 0194 0195 0196 0198 0199 0200 0201 0202 0203 0204 0205 0208 0209 0210 0211 0212 0213 " +
	"0215 0216 0217 0218 0221 0225 0230 0235 0240 9910 9913 9914 9915 9918 9919 9920 9922 9923 9924 9925 9926 " +
	"9927 9928 9929 9930 9931 9932 9933 9934 9935 9936 9937 9938 9939 9940 9941 9942 9943 9944 9945 9946 9947 " +
	"9948 9949 9950 9951 9952 9953 9957 9959 EM")

// CheckEndpoint records in p what is wrong with an electronic address. Both texts empty are none.
func CheckEndpoint(p *domain.Problems, scheme, id string) {
	p.Check(scheme == "" || slices.Contains(endpointSchemes, scheme), "/endpoint_scheme", "must be a code of the EAS list, such as 0088 or 9930")
	p.Check((scheme == "") == (id == ""), "/endpoint_id", "must be given with endpoint_scheme")
	p.OptionalText("/endpoint_id", id, MaxEndpointID)
}
