# Prepares on two connections that take turns, and prints how many rows came of it.
import sys

import psycopg

connections = [psycopg.connect(sys.argv[1], autocommit=True) for _ in range(2)]
connections[0].execute("CREATE TABLE psycopg (n int)")
for n in range(20):
    connection = connections[n % 2]
    with connection.transaction():
        connection.execute("INSERT INTO psycopg VALUES (%s)", [n], prepare=True)
print(connections[1].execute("SELECT count(*) FROM psycopg").fetchone()[0])
