// Prepares on two connections that take turns, and prints how many rows came of it.
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;

class WithJdbc {
    public static void main(String[] arguments) throws Exception {
        Connection[] connections = new Connection[2];
        PreparedStatement[] add = new PreparedStatement[2];
        for (int i = 0; i < 2; i++) {
            connections[i] = DriverManager.getConnection(arguments[0]);
            connections[i].setAutoCommit(false);
        }
        try (Statement statement = connections[0].createStatement()) {
            statement.execute("CREATE TABLE jdbc (n int)");
            connections[0].commit();
        }
        for (int i = 0; i < 2; i++) {
            // From its fifth use on the driver has the server prepare it.
            add[i] = connections[i].prepareStatement("INSERT INTO jdbc VALUES (?)");
        }
        for (int n = 0; n < 20; n++) {
            add[n % 2].setInt(1, n);
            add[n % 2].execute();
            connections[n % 2].commit();
        }
        try (Statement statement = connections[1].createStatement();
                ResultSet found = statement.executeQuery("SELECT count(*) FROM jdbc")) {
            found.next();
            System.out.println(found.getInt(1));
        }
        connections[0].close();
        connections[1].close();
    }
}
