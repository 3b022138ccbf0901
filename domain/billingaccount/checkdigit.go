package billingaccount

import "strings"

// The rules by which countries compute the check digits of their tax identifiers. Each gets a number of the country's
// format, without its prefix.

func digit(n string, i int) int { return int(n[i] - '0') }

// sum adds the first digits, each times its weight.
func sum(n string, weights ...int) int {
	total := 0
	for i, w := range weights {
		total += w * digit(n, i)
	}
	return total
}

// remainder is the number modulo m, however long it is.
func remainder(n string, m int) int {
	r := 0
	for i := range len(n) {
		r = (r*10 + digit(n, i)) % m
	}
	return r
}

// weighted is the rule that all digits times their weights are a multiple of m.
func weighted(m int, weights ...int) func(string) bool {
	return func(n string) bool { return sum(n, weights...)%m == 0 }
}

// weighted11 is the rule that the digit after the weighted ones is 11 less the sum's remainder, 11 counting as 0; there is
// no number for which that is 10.
func weighted11(weights ...int) func(string) bool {
	return func(n string) bool { return (11-sum(n, weights...)%11)%11 == digit(n, len(weights)) }
}

// iso7064mod1110 is ISO/IEC 7064, MOD 11,10: Germany and Croatia.
func iso7064mod1110(n string) bool {
	product := 10
	for i := range len(n) - 1 {
		s := (product + digit(n, i)) % 10
		if s == 0 {
			s = 10
		}
		product = s * 2 % 11
	}
	return (11-product)%10 == digit(n, len(n)-1)
}

// luhn is ISO/IEC 7812-1 annex B: Italy, Sweden.
func luhn(n string) bool {
	total := 0
	for i := range len(n) {
		d := digit(n, len(n)-1-i)
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		total += d
	}
	return total%10 == 0
}

func checkAT(n string) bool {
	n = strings.TrimPrefix(n, "U")
	total := 4
	for i := range 7 {
		d := digit(n, i)
		if i%2 == 1 {
			d = d/5 + d*2%10
		}
		total += d
	}
	return (10-total%10)%10 == digit(n, 7)
}

func checkBE(n string) bool { return 97-remainder(n[:8], 97) == remainder(n[8:], 1000) && n[0] <= '1' }

func checkGR(n string) bool { return sum(n, 256, 128, 64, 32, 16, 8, 4, 2)%11%10 == digit(n, 8) }

// checkFR checks keys of two digits. Keys with letters are computed in a way that is not published as a rule.
func checkFR(n string) bool {
	if n[0] > '9' || n[1] > '9' {
		return true
	}
	return (12+3*remainder(n[2:], 97))%97 == remainder(n[:2], 100)
}

// checkIE checks numbers of seven digits and one letter or two; the old ones with a sign in second place are not checked.
func checkIE(n string) bool {
	if n[1] > '9' {
		return true
	}
	total := sum(n, 8, 7, 6, 5, 4, 3, 2)
	if len(n) == 9 && n[8] != 'W' {
		total += 9 * int(n[8]-'A'+1)
	}
	return "WABCDEFGHIJKLMNOPQRSTUV"[total%23] == n[7]
}

func checkLU(n string) bool { return remainder(n[:6], 89) == remainder(n[6:], 100) }

// checkNL accepts either rule: weights for companies, and ISO/IEC 7064 MOD 97-10 over the whole with its prefix, N being 23,
// L 21 and B 11, for the numbers that sole traders have had since 2020.
func checkNL(n string) bool {
	if sum(n, 9, 8, 7, 6, 5, 4, 3, 2)%11 == digit(n, 8) {
		return true
	}
	return remainder("2321"+n[:9]+"11"+n[10:], 97) == 1
}

func checkPL(n string) bool { return sum(n, 6, 5, 7, 2, 3, 4, 5, 6, 7)%11 == digit(n, 9) }

func checkPT(n string) bool {
	d := 11 - sum(n, 9, 8, 7, 6, 5, 4, 3, 2)%11
	if d > 9 {
		d = 0
	}
	return d == digit(n, 8)
}

func checkRO(n string) bool {
	n = strings.Repeat("0", 10-len(n)) + n
	return sum(n, 7, 5, 3, 2, 1, 7, 5, 3, 2)*10%11%10 == digit(n, 9)
}

func checkSI(n string) bool {
	d := 11 - sum(n, 8, 7, 6, 5, 4, 3, 2)%11
	return d != 11 && d%10 == digit(n, 7)
}

// checkGB checks the first nine digits: seven of them weighted and the last two are a multiple of 97, or 55 short of one.
func checkGB(n string) bool {
	total := sum(n, 8, 7, 6, 5, 4, 3, 2) + remainder(n[7:9], 100)
	return total%97 == 0 || (total+55)%97 == 0
}

func checkAU(n string) bool {
	return (sum(n, 10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19)-10)%89 == 0 // the first digit counts one less
}
