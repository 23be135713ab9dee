"""One file for each part: tasks(place) gives its rows, each with a function that measures it."""
