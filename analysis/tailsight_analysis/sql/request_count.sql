-- How many requests does the store hold, in the window, with these filters?
SELECT count() AS requests FROM ({{requests}})
