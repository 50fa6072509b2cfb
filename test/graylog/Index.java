import java.io.PrintStream;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.opensearch.analysis.common.CommonAnalysisPlugin;
import org.opensearch.common.settings.Settings;
import org.opensearch.http.HttpServerTransport;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.transport.Netty4Plugin;

/**
 * Runs an OpenSearch of one node in a directory, as long as its standard input is open, and says
 * where its REST API is.
 */
public class Index extends Node {
    Index(Settings settings, Path configuration) {
        super(InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), configuration, () -> "index"), List.of(Netty4Plugin.class, CommonAnalysisPlugin.class), false);
    }

    public static void main(String[] args) throws Exception {
        PrintStream out = System.out;
        System.setOut(System.err); // for the log
        Path home = Path.of(args[0]);
        Settings settings = Settings.builder().put("path.home", home).put("network.host", "127.0.0.1").put("http.port", "0").put("transport.port", "0")
                .put("transport.type", "netty4").put("http.type", "netty4").put("discovery.type", "single-node").put("node.processors", 1)
                .put("cluster.routing.allocation.disk.threshold_enabled", false).build();
        Node node = new Index(settings, home.resolve("config")).start();
        out.println("http://" + node.injector().getInstance(HttpServerTransport.class).boundAddress().publishAddress());
        System.in.read();
        node.close();
        System.exit(0);
    }
}
