// What a dashboard and the panels that we use look like, in the types of Grafana itself.
// grafana.schema.json is made of it, with @grafana/schema 13.2.3 (Apache-2.0) and
// ts-json-schema-generator 2.4.0 of npm:
//
//   ts-json-schema-generator --path grafana.ts --type All --no-type-check \
//     --expose none --jsDoc none --minify -o grafana.schema.json
import type { Dashboard as Classic, Panel, RowPanel, FieldConfig, FieldConfigSource } from '@grafana/schema/dist/types/raw/dashboard/x/types.gen';
import type * as timeseries from '@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/types.gen';
import type * as stat from '@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/types.gen';
import type * as table from '@grafana/schema/dist/types/raw/composable/table/panelcfg/x/types.gen';
import type * as bargauge from '@grafana/schema/dist/types/raw/composable/bargauge/panelcfg/x/types.gen';
import type * as statetimeline from '@grafana/schema/dist/types/raw/composable/statetimeline/panelcfg/x/types.gen';

export interface DashboardOnly extends Classic {}
export type StatOptions = stat.Options;
export type BarGaugeOptions = bargauge.Options;
export type TimeSeriesOptions = timeseries.Options;
export type TimeSeriesCustom = timeseries.FieldConfig;
export type TableOptions = table.Options;
export type TableCustom = table.FieldConfig;
export type StateTimelineOptions = statetimeline.Options;
export type StateTimelineCustom = statetimeline.FieldConfig;
export interface All {
  dashboard: DashboardOnly;
  stat: { options: StatOptions; custom?: {} };
  bargauge: { options: BarGaugeOptions; custom?: {} };
  timeseries: { options: TimeSeriesOptions; custom?: TimeSeriesCustom };
  table: { options: TableOptions; custom?: TableCustom };
  'state-timeline': { options: StateTimelineOptions; custom?: StateTimelineCustom };
}
