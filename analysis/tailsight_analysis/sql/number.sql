-- Fragment. A function for arrayMap: which number does a text say? NaN where it says none, or one that nobody measured:
-- above 1e60 in size, the sums of squares that statistics need are no numbers any more.
text -> if(abs(toFloat64OrZero(text)) <= 1e60, ifNull(toFloat64OrNull(text), nan), nan)
