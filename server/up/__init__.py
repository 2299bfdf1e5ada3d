"""``flotilla up``: simulator, web server and supervisor under one roof, and all of them ended in order."""
