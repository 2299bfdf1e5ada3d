"""The trading core: decisions as functions of market events, without sockets, files, clocks or chance."""
